import type { FastifyInstance } from "fastify";
import { findEntitlement } from "../core/billing/billing.ts";
import type { Context } from "../core/context.ts";
import { findCredential } from "../core/orchestrator/orchestrator.ts";
import {
  type BotApiGateway,
  closeChat,
  createBotApiGateway,
  createChatLookup,
  createIdMemory,
  createRuntimeAuth,
  ownsId,
  registerModelGateway,
  type RuntimeAuth,
} from "../core/router/router.ts";

/** Who may come in as which runtime. */
export function openRuntimeAuth(ctx: Context): RuntimeAuth {
  return createRuntimeAuth({
    clock: ctx.clock,
    credentials: { find: (tenantId, kind) => findCredential(ctx.db, tenantId, kind) },
  });
}

/** The Bot API for runtimes. */
export function openBotApiGateway(ctx: Context, auth: RuntimeAuth): BotApiGateway {
  const token = ctx.secrets.telegramBotToken;
  const chats = createChatLookup(ctx);
  return createBotApiGateway({
    auth,
    clock: ctx.clock,
    log: ctx.log,
    telegram: token === undefined ? undefined : { apiRoot: ctx.config.telegram.apiRoot, token },
    tenantChat: (tenantId) => chats.submit(tenantId),
    ownsId: (tenantId, kind, id) => ownsId(ctx.db, tenantId, { kind, id }),
    rememberIds: createIdMemory(ctx),
    pacer: ctx.pacer,
    closeChat: (chatId) => closeChat(ctx, chatId),
  });
}

/** Models for runtimes. */
export async function registerModels(app: FastifyInstance, ctx: Context, auth: RuntimeAuth): Promise<void> {
  const { anthropicApiKey, openaiApiKey } = ctx.secrets;
  const { anthropicBaseUrl, openaiBaseUrl } = ctx.config.models;
  await app.register((scope) =>
    registerModelGateway(scope, {
      auth,
      upstreams: {
        ...(anthropicApiKey === undefined ? {} : { anthropic: { baseUrl: anthropicBaseUrl, apiKey: anthropicApiKey } }),
        ...(openaiApiKey === undefined ? {} : { openai: { baseUrl: openaiBaseUrl, apiKey: openaiApiKey } }),
      },
      async admit(tenantId) {
        const { entitled, reason } = await findEntitlement(ctx.db, tenantId, ctx.clock.now());
        return entitled
          ? { ok: true }
          : {
              ok: false,
              status: 403,
              code: "not_entitled",
              message: `The subscription does not allow this: ${reason}`,
            };
      },
    }),
  );
}
