import type { FastifyInstance } from "fastify";
import { findEntitlement } from "../core/billing/billing.ts";
import type { Context } from "../core/context.ts";
import { findCredential } from "../core/orchestrator/orchestrator.ts";
import {
  createRuntimeAuth,
  ownsId,
  registerBotApiGateway,
  registerModelGateway,
  rememberIds,
} from "../core/router/router.ts";
import { findTenantById } from "../core/tenants/tenants.ts";

/** The internal listener's routes: what runtimes reach instead of the outside. */
export async function registerGateways(app: FastifyInstance, ctx: Context): Promise<void> {
  const auth = createRuntimeAuth({
    clock: ctx.clock,
    credentials: { find: (tenantId, kind) => findCredential(ctx.db, tenantId, kind) },
  });
  const token = ctx.secrets.telegramBotToken;
  await app.register((scope) =>
    registerBotApiGateway(scope, {
      auth,
      clock: ctx.clock,
      telegram: token === undefined ? undefined : { apiRoot: ctx.config.telegram.apiRoot, token },
      async tenantChat(tenantId) {
        const tenant = await findTenantById(ctx.db, tenantId);
        const chatId = tenant?.telegramChatId ?? undefined;
        return chatId === undefined ? undefined : { chatId, userId: tenant?.telegramUserId ?? null };
      },
      ownsId: (tenantId, kind, id) => ownsId(ctx.db, tenantId, { kind, id }),
      rememberIds: (tenantId, ids) => rememberIds(ctx, tenantId, ids),
    }),
  );
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
