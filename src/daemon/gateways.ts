import type { FastifyInstance } from "fastify";
import type pg from "pg";
import { createMeter, type Meter, readPriceTable } from "../core/billing/billing.ts";
import type { Context } from "../core/context.ts";
import type { CallLog } from "../core/router/activity.ts";
import { createDb } from "../core/platform/db.ts";
import { createDaemonCount } from "../core/platform/daemons.ts";
import type { DaemonId } from "../core/platform/ids.ts";
import { findCredentials, readModelsInUse } from "../core/orchestrator/orchestrator.ts";
import {
  type BotApiGateway,
  closeChat,
  createBotApiGateway,
  createChatLookup,
  createIdMemory,
  createRuntimeAuth,
  type ModelGatewayDeps,
  ownsId,
  registerModelGateway,
  type RuntimeAuth,
} from "../core/router/router.ts";
import { registerIntegrations } from "./integrations-gateway.ts";
import type { Metrics } from "./metrics.ts";
import { createTokenLimit } from "./token-limit.ts";

/** Who may come in as which runtime. */
export function openRuntimeAuth(ctx: Context): RuntimeAuth {
  return createRuntimeAuth({
    clock: ctx.clock,
    credentials: { find: (tenantId, kind) => findCredentials(ctx.db, tenantId, kind) },
  });
}

/** The Bot API for runtimes. */
export function openBotApiGateway(ctx: Context, auth: RuntimeAuth, calls: CallLog): BotApiGateway {
  const token = ctx.secrets.telegramBotToken;
  const chats = createChatLookup(ctx);
  return createBotApiGateway({
    auth,
    clock: ctx.clock,
    log: ctx.log,
    telegram: token === undefined ? undefined : { apiRoot: ctx.config.telegram.apiRoot, token },
    tenantChat(tenantId) {
      calls.note(tenantId);
      return chats.submit(tenantId);
    },
    ownsId: (tenantId, kind, id) => ownsId(ctx.db, tenantId, { kind, id }),
    rememberIds: createIdMemory(ctx),
    pacer: ctx.pacer,
    closeChat: (chatId) => closeChat(ctx, chatId),
  });
}

/** What model calls cost, on connections of its own: a call waits for nothing else. */
export async function openMeter(ctx: Context, pool: pg.Pool, daemonId: DaemonId): Promise<Meter> {
  const { modelsByTier } = ctx.config.runtime;
  const prices = await readPriceTable(ctx.config.models.pricesFile);
  const db = createDb(pool);
  const readModels = onceAWhile(ctx, () => readModelsInUse(db, modelsByTier));
  const meter = createMeter({ ...ctx, pool, daemonId, prices, readModels });
  const unpriced = Object.values(modelsByTier)
    .flat()
    .filter((model) => meter.findPrice(model) === undefined);
  if (unpriced.length > 0) {
    const models = [...new Set(unpriced)];
    ctx.log.error({ models }, "models without a price are refused; give them one in OPENCLAW_PRICES_FILE");
  }
  return meter;
}

/** Long enough that calls don't ask for it, and shorter than a runtime takes to come up with another release. */
const MODELS_KEPT_MS = 1_000;

/** Reads again only when what was read last is old; what fails is tried again by the next caller. */
function onceAWhile<Result>({ clock }: Context, read: () => Promise<Result>): () => Promise<Result> {
  let kept: { value: Result; until: number } | undefined;
  return async () => {
    const now = clock.now().getTime();
    if (kept === undefined || kept.until <= now) kept = { value: await read(), until: now + MODELS_KEPT_MS };
    return kept.value;
  };
}

/** Models for runtimes. */
export async function registerModels(
  app: FastifyInstance,
  ctx: Context,
  deps: Pick<ModelGatewayDeps, "auth" | "meter" | "observe">,
): Promise<void> {
  const { anthropicApiKey, openaiApiKey } = ctx.secrets;
  const { anthropicBaseUrl, openaiBaseUrl } = ctx.config.models;
  await app.register((scope) =>
    registerModelGateway(scope, {
      ...deps,
      upstreams: {
        ...(anthropicApiKey === undefined ? {} : { anthropic: { baseUrl: anthropicBaseUrl, apiKey: anthropicApiKey } }),
        ...(openaiApiKey === undefined ? {} : { openai: { baseUrl: openaiBaseUrl, apiKey: openaiApiKey } }),
      },
    }),
  );
}

/** Access tokens of connections for runtimes. */
export async function registerTokens(
  app: FastifyInstance,
  ctx: Context,
  { auth, metrics }: { auth: RuntimeAuth; metrics: Metrics },
): Promise<void> {
  const limit = createTokenLimit({ redis: ctx.redis, countDaemons: createDaemonCount(ctx.pool) });
  const { noted, asked } = metrics.integrations;
  await app.register(async (scope) =>
    registerIntegrations(scope, { ctx: { ...ctx, observe: noted }, auth, limit, observe: asked }),
  );
}
