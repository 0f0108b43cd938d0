import { createCallLog } from "../core/router/activity.ts";
import { type Acceptor, createAcceptor, type Router } from "../core/router/router.ts";
import { openBotApiGateway, openMeter, openRuntimeAuth, registerModels, registerTokens } from "./gateways.ts";
import { registerHealth } from "./health.ts";
import { createServer, listen } from "./http.ts";
import { registerMetrics } from "./metrics.ts";
import { registerOAuth } from "./oauth.ts";
import { type Daemon, openPool } from "./parts.ts";
import { telegramWebhook } from "./telegram-webhook.ts";
import { registerStripeWebhook } from "./webhooks.ts";

/** A connection that has gone dead unnoticed costs so much: well within what Telegram waits for an answer, */
const ACCEPTOR_QUERY_MS = 4_000;
/** and within what a model's caller waits for gladly. */
const METER_QUERY_MS = 10_000;
/** One reserves, one settles; the rest is for what happens now and then. */
const METER_CONNECTIONS = 4;
/** Uploads go on to Telegram while they arrive here, and take as long as that takes. */
const UPLOAD_MS = 15 * 60_000;

/** Gateways for runtimes, metrics and health. @returns where they are reached. */
export async function openGateway(daemon: Daemon): Promise<string> {
  const { id, ctx, metrics, migrationsFolder, parts } = daemon;
  const { internalListen, metricsToken } = ctx.config.http;
  const auth = openRuntimeAuth(ctx);
  parts.calls = createCallLog(ctx);
  const botApi = openBotApiGateway(ctx, auth, parts.calls);
  const app = createServer(ctx.log, botApi);
  app.addHook("onClose", () => botApi.close());
  app.server.requestTimeout = UPLOAD_MS;
  parts.gateway = app;
  registerHealth(app, { pool: ctx.pool, log: ctx.log, migrationsFolder });
  registerMetrics(app, metrics, { isLoopback: isLoopback(internalListen.host), token: metricsToken });
  parts.meter = await openMeter(ctx, openPool(daemon, METER_CONNECTIONS, METER_QUERY_MS), id);
  await registerTokens(app, ctx, { auth, metrics });
  await registerModels(app, ctx, { auth, meter: parts.meter, observe: metrics.models.called });
  return listen(app, internalListen);
}

/** Webhooks and the pages on which accounts are connected. @returns where they are reached. */
export async function openWeb(daemon: Daemon): Promise<string> {
  const { ctx, metrics, migrationsFolder, parts } = daemon;
  const app = createServer(
    ctx.log,
    telegramWebhook({
      secret: ctx.secrets.telegramWebhookSecret,
      acceptor: openAcceptor(daemon),
      metrics,
      log: ctx.log,
    }),
  );
  parts.web = app;
  registerHealth(app, { pool: ctx.pool, log: ctx.log, migrationsFolder });
  await app.register((scope) => registerStripeWebhook(scope, { ctx, metrics }));
  const reached = { url: ctx.config.http.publicUrl };
  await app.register((scope) => registerOAuth(scope, { ctx, publicUrl: () => reached.url ?? "" }));
  const address = await listen(app, ctx.config.http.publicListen);
  // Known once it listens, and nobody comes before that.
  reached.url ??= address;
  return address;
}

function openAcceptor(daemon: Daemon): Acceptor | undefined {
  const { ctx, parts } = daemon;
  const token = ctx.secrets.telegramBotToken;
  if (token === undefined) return undefined;
  const lanes = {
    holds: (shard: number) => parts.router?.lanes.holds(shard) ?? false,
    offer: (...handed: Parameters<Router["lanes"]["offer"]>) => parts.router?.lanes.offer(...handed),
  };
  // A bot's id is the number before the colon of its token.
  return createAcceptor(
    { pool: openPool(daemon, 1, ACCEPTOR_QUERY_MS), clock: ctx.clock, botId: Number.parseInt(token, 10) },
    lanes,
  );
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}
