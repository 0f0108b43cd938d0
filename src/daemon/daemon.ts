import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import path from "node:path";
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import { type ArmBudgetState, readBudgets } from "../core/adapters/runtime/azure/arm-budget.ts";
import type { RuntimeDriver } from "../core/adapters/runtime/runtime-driver.ts";
import type { Pacer } from "../core/adapters/telegram/pacer.ts";
import { createPayLinks, type Meter } from "../core/billing/billing.ts";
import { readFleetSettings, readSweeps } from "../core/orchestrator/orchestrator.ts";
import { type Context, createContext } from "../core/context.ts";
import type { Config, Secrets } from "../core/platform/config.ts";
import { heartbeat, signOff, unlockJobsOfDeadDaemons } from "../core/platform/daemons.ts";
import { createPool } from "../core/platform/db.ts";
import type { DaemonId } from "../core/platform/ids.ts";
import type { Log } from "../core/platform/log.ts";
import { readConnectionTotals, settleRefreshes } from "../core/integrations/integrations.ts";
import { noteEnvironment } from "../core/orchestrator/orchestrator.ts";
import { isLedgerCurrent } from "../core/platform/migrations.ts";
import { packageRoot } from "../core/platform/package-root.ts";
import { endsWithin, pause, repeat } from "../core/platform/pause.ts";
import { readStamps, registerStamps as putStamps } from "../core/platform/stamps.ts";
import { readVersion } from "../core/platform/version.ts";
import { type CallLog, createCallLog } from "../core/router/activity.ts";
import { type Acceptor, createAcceptor, readBacklog, type Router, startRouter } from "../core/router/router.ts";
import { createConnectLinks } from "../core/router/connection-news.ts";
import { lastActivity } from "./activity.ts";
import { openBotApiGateway, openMeter, openRuntimeAuth, registerModels, registerTokens } from "./gateways.ts";
import { registerHealth } from "./health.ts";
import { createServer, listen } from "./http.ts";
import { type JobRunner, startJobs } from "./jobs.ts";
import { keepHeapSmall } from "./memory.ts";
import { createMetrics, type Metrics, registerMetrics } from "./metrics.ts";
import { registerOAuth } from "./oauth.ts";
import { telegramWebhook } from "./telegram-webhook.ts";
import { registerStripeWebhook } from "./webhooks.ts";

export const ROLES = ["web", "gateway", "worker"] as const;
export type Role = (typeof ROLES)[number];

export type DaemonOptions = {
  config: Config;
  secrets: Secrets;
  log: Log;
  roles: readonly Role[];
  /** Where runtimes run, other than configured: for load on the rest of a daemon. */
  runtimes?: RuntimeDriver;
  /** The bot's pace, other than configured: likewise. */
  pacer?: Pacer;
};

const HEARTBEAT_MS = 2_000;
const MIGRATION_POLL_MS = 1_000;
/** A connection that has gone dead unnoticed costs so much: well within what Telegram waits for an answer, */
const ACCEPTOR_QUERY_MS = 4_000;
/** within a lease, */
const LEASE_QUERY_MS = 3_000;
/** within what a model's caller waits for gladly, */
const METER_QUERY_MS = 10_000;
/** and longer than reading a large backlog takes. */
const ROUTER_QUERY_MS = 20_000;
/** One reserves, one settles; the rest is for what happens now and then. */
const METER_CONNECTIONS = 4;
const DRAIN_MS = 10_000;
/** What is left of a refresh when its askers have their answers, or have left. */
const SETTLE_MS = 5_000;
/** Uploads go on to Telegram while they arrive here, and take as long as that takes. */
const UPLOAD_MS = 15 * 60_000;

/** What a daemon has opened so far, by role. */
type Parts = {
  pools: pg.Pool[];
  web?: FastifyInstance;
  gateway?: FastifyInstance;
  meter?: Meter;
  calls?: CallLog;
  router?: Router;
  jobs?: JobRunner;
  isSignedOn: boolean;
};

type Daemon = {
  id: DaemonId;
  ctx: Context;
  roles: readonly Role[];
  metrics: Metrics;
  migrationsFolder: string;
  /** Where runtimes reach this daemon's gateways; undefined without that role. */
  gatewayUrl: string | undefined;
  parts: Parts;
};

/**
 * Serves until `signal` aborts, then stops accepting, finishes what is under way, gives its leases back and returns.
 * Everything it holds is rebuilt from the database at the next start.
 */
export async function runDaemon(options: DaemonOptions, signal: AbortSignal): Promise<void> {
  keepHeapSmall();
  const { config, secrets, log, roles, ...overrides } = options;
  const ctx = await createContext(config, secrets, log, { actor: { name: "daemon" }, ...overrides });
  const parts: Parts = { pools: [], isSignedOn: false };
  const daemon: Daemon = {
    id: randomUUID() as DaemonId,
    ctx,
    roles,
    metrics: createMetrics({
      laneDepth: () => parts.router?.lanes.depth() ?? { lanes: 0, updates: 0 },
      shardsHeld: () => parts.router?.lanes.held().length ?? 0,
      readBacklog: () => readBacklog(ctx.db),
      now: () => ctx.clock.now(),
      sendsPerSecond: config.telegram.sendsPerSecond,
      readPacer: () => ctx.pacer.state(),
      readArmBudgets: armBudgetsReader(ctx),
      readSweeps: () => readSweeps(ctx.db),
      readConnections: () => readConnectionTotals(ctx.db, ctx.clock.now()),
    }),
    migrationsFolder: path.join(packageRoot(), "migrations"),
    gatewayUrl: undefined,
    parts,
  };
  try {
    await serve(daemon, signal);
  } finally {
    await stop(daemon);
  }
  log.info({}, "stopped");
}

/** Undefined where nothing is asked of Azure. */
function armBudgetsReader({ config, pool }: Context): (() => Promise<ArmBudgetState[]>) | undefined {
  if (config.runtime.driver !== "azure") return undefined;
  const { armCallsPerMinute } = config.runtime.azure;
  return () => readBudgets(pool, armCallsPerMinute);
}

async function serve(daemon: Daemon, signal: AbortSignal): Promise<void> {
  const { ctx, roles } = daemon;
  const internalAddress = roles.includes("gateway") ? await openGateway(daemon) : undefined;
  daemon.gatewayUrl = internalAddress;
  const publicAddress = roles.includes("web") ? await openWeb(daemon) : undefined;
  ctx.log.info({ publicAddress, internalAddress, roles, pid: process.pid, ...readVersion() }, "ready");
  // A database that is not there yet, or not migrated, is waited for: the listeners say so meanwhile (F81).
  await untilMigrated(daemon, signal);
  if (signal.aborted) return;
  await registerStamps(ctx);
  await beat(daemon);
  if (roles.includes("worker")) await startWorker(daemon);
  await repeat(HEARTBEAT_MS, signal, () => beat(daemon));
}

/** So that tenants can be put on them. */
async function registerStamps({ config, db }: Context): Promise<void> {
  if (config.runtime.driver === "azure") await putStamps(db, await readStamps(config.runtime.azure));
}

async function openGateway(daemon: Daemon): Promise<string> {
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

async function openWeb(daemon: Daemon): Promise<string> {
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

async function startWorker(daemon: Daemon): Promise<void> {
  const { id, ctx, metrics, parts } = daemon;
  await compareEnvironment(ctx);
  const { tenancy, router } = ctx.config;
  const readFleet = () => readFleetSettings(ctx);
  const { priceBasic: basic, pricePlus: plus } = ctx.config.stripe;
  const { signupUrl } = tenancy;
  const payLinks = createPayLinks({ ...ctx, prices: { basic, plus }, signupUrl, publicUrl: ctx.config.http.publicUrl });
  parts.router = await startRouter({
    ...ctx,
    payLinks,
    pool: openPool(daemon, 12, ROUTER_QUERY_MS),
    leasePool: openPool(daemon, 1, LEASE_QUERY_MS),
    daemonId: id,
    observer: metrics.router,
    signupUrl,
    rateLimitPerMinute: router.rateLimitPerMinute,
  });
  parts.jobs = startJobs(
    {
      ...ctx,
      readFleet,
      payLinks,
      connectLinks: createConnectLinks({ ...ctx, publicUrl: ctx.config.http.publicUrl }),
      lastActivity,
      retentionDays: tenancy.retentionDays,
    },
    openPool(daemon, 16),
    metrics,
  );
  // At once, so that nobody takes the jobs of these workers for those of a dead daemon.
  await beat(daemon);
  ctx.log.info({ shards: parts.router.lanes.held().length }, "working");
}

/** What the environment says of runtimes counts until an operator says something; from then on a daemon that was told otherwise says so. */
async function compareEnvironment(ctx: Context): Promise<void> {
  const { image, modelsByTier, isNamed } = ctx.config.runtime;
  const inForce = await noteEnvironment({ ...ctx, environment: { image, modelsByTier } });
  if (inForce === undefined || !isNamed) return;
  ctx.log.warn(
    { image, modelsByTier, inForce: { release: inForce.id, image: inForce.image, modelsByTier: inForce.modelsByTier } },
    "OPENCLAW_RUNTIME_IMAGE or OPENCLAW_MODEL_* name something else than the release that counts; see: openclaw fleet settings show",
  );
}

/** A pool apart, so that what uses it can't be starved by the rest. */
function openPool({ ctx, parts }: Daemon, max: number, queryTimeoutMs?: number): pg.Pool {
  const pool = createPool({
    url: ctx.databaseUrl,
    max,
    applicationName: "openclaw-daemon",
    onIdleError: (error) => ctx.log.warn({ error }, "database connection lost"),
    ...(queryTimeoutMs === undefined ? {} : { queryTimeoutMs }),
  });
  parts.pools.push(pool);
  return pool;
}

async function untilMigrated({ ctx, migrationsFolder }: Daemon, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      if (await isLedgerCurrent(ctx.pool, migrationsFolder)) return;
      ctx.log.warn({}, "the database is not migrated to this version, waiting; run: openclaw migrate");
    } catch (error) {
      ctx.log.warn({ error }, "the database does not answer, waiting");
      await reviveDatabase(ctx);
    }
    await pause(MIGRATION_POLL_MS, signal);
  }
}

/** Says that this daemon lives, and takes over the jobs of those that no longer do. */
async function beat({ id, ctx, roles, gatewayUrl, parts }: Daemon): Promise<void> {
  try {
    const workerIds = parts.jobs?.workerIds() ?? [];
    await heartbeat(ctx.pool, {
      id,
      roles,
      ...readVersion(),
      host: hostname(),
      pid: process.pid,
      workerIds,
      gatewayUrl,
    });
    parts.isSignedOn = true;
    await parts.calls?.flush();
    if (!roles.includes("worker")) return;
    const freed = await unlockJobsOfDeadDaemons(ctx.pool);
    if (freed.length > 0) ctx.log.warn({ workers: freed }, "took over the jobs of a daemon that died");
    const lost = (await parts.jobs?.giveLostBack()) ?? 0;
    if (lost > 0) ctx.log.warn({ jobs: lost }, "gave back jobs whose news got lost on the way");
  } catch (error) {
    // The next beat tries again; meanwhile others see this daemon as silent, which it is.
    ctx.log.warn({ error }, "heartbeat failed");
    await reviveDatabase(ctx);
  }
}

/** Starts the embedded database again if it is gone. That it does not start is said, and tried again. */
async function reviveDatabase(ctx: Context): Promise<void> {
  await ctx.reviveDatabase().catch((error: unknown) => ctx.log.error({ error }, "the database does not start"));
}

/** In this order: nothing new comes in and work ends, then runtimes lose their gateway. */
async function stop({ id, ctx, parts }: Daemon): Promise<void> {
  await Promise.all([closeServer(parts.web), parts.jobs?.stop(), parts.router?.stop()]);
  await closeServer(parts.gateway);
  // A refresh token that was just spent, and whose successor was not kept, would end its connection.
  await endsWithin(SETTLE_MS, settleRefreshes(ctx));
  await parts.meter?.close();
  if (parts.isSignedOn)
    await signOff(ctx.pool, id).catch((error: unknown) => ctx.log.warn({ error }, "could not sign off"));
  for (const pool of parts.pools) await pool.end();
  await ctx.close();
}

/** Answers what was begun; whoever takes longer than that to ask, or to listen, is cut off. */
async function closeServer(app: FastifyInstance | undefined): Promise<void> {
  if (app === undefined) return;
  const cutOff = setTimeout(() => app.server.closeAllConnections(), DRAIN_MS);
  await app.close();
  clearTimeout(cutOff);
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}
