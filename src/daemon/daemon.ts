import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import path from "node:path";
import type { FastifyInstance } from "fastify";
import { type ArmBudgetState, readBudgets } from "../core/adapters/runtime/azure/arm-budget.ts";
import type { RuntimeDriver } from "../core/adapters/runtime/runtime-driver.ts";
import type { Pacer } from "../core/adapters/telegram/pacer.ts";
import { type Context, createContext } from "../core/context.ts";
import { readConnectionTotals, settleRefreshes } from "../core/integrations/integrations.ts";
import { readSweeps } from "../core/orchestrator/orchestrator.ts";
import type { Config, Secrets } from "../core/platform/config.ts";
import { heartbeat, signOff, unlockJobsOfDeadDaemons } from "../core/platform/daemons.ts";
import type { DaemonId } from "../core/platform/ids.ts";
import type { Log } from "../core/platform/log.ts";
import { isLedgerCurrent } from "../core/platform/migrations.ts";
import { packageRoot } from "../core/platform/package-root.ts";
import { endsWithin, pause, repeat } from "../core/platform/pause.ts";
import { readStamps, registerStamps as putStamps } from "../core/platform/stamps.ts";
import { readVersion } from "../core/platform/version.ts";
import { readBacklog } from "../core/router/router.ts";
import { openGateway, openWeb } from "./listeners.ts";
import { keepHeapSmall } from "./memory.ts";
import { createMetrics } from "./metrics.ts";
import type { Daemon, Parts, Role } from "./parts.ts";
import { startWorker } from "./worker.ts";

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
const DRAIN_MS = 10_000;
/** What is left of a refresh when its askers have their answers, or have left. */
const SETTLE_MS = 5_000;
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
      readConnections: () => readConnectionTotals(ctx),
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
  if (roles.includes("worker")) {
    await startWorker(daemon);
    // At once, so that nobody takes the jobs of these workers for those of a dead daemon.
    await beat(daemon);
    ctx.log.info({ shards: daemon.parts.router?.lanes.held().length }, "working");
  }
  await repeat(HEARTBEAT_MS, signal, () => beat(daemon));
}

/** So that tenants can be put on them. */
async function registerStamps({ config, db }: Context): Promise<void> {
  if (config.runtime.driver === "azure") await putStamps(db, await readStamps(config.runtime.azure));
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
