import { EventEmitter } from "node:events";
import { Logger, parseCronItems, run, type Runner, type TaskList, type WorkerEvents } from "graphile-worker";
import type pg from "pg";
import {
  forgetEventsOf,
  keepRevenueOf,
  type PayLinks,
  projectStripeEvents,
  pruneEvents,
  settleLostCalls,
  sweepEntitlement,
} from "../core/billing/billing.ts";
import {
  endConnectionsOf,
  pruneConnectionEvents,
  pruneConnectLinks,
  sweepConnections,
  sweepRevocations,
} from "../core/integrations/integrations.ts";
import type { FleetSettings, OrchestratorContext } from "../core/orchestrator/orchestrator.ts";
import {
  advanceRotation,
  advanceRollout,
  convergeTenant,
  pruneSteps,
  purgeTenant,
  sweepIdle,
  sweepPurges,
  sweepRotations,
  sweepRollouts,
  sweepRuntimes,
} from "../core/orchestrator/orchestrator.ts";
import { forgetSilentDaemons, unlockLostJobs } from "../core/platform/daemons.ts";
import type { Db } from "../core/platform/db.ts";
import type { TenantId } from "../core/platform/ids.ts";
import type { JobName, JobPayloads } from "../core/platform/jobs.ts";
import type { Log } from "../core/platform/log.ts";
import { endsWithin, pause } from "../core/platform/pause.ts";
import { type ConnectLinks, tellConnectionNews } from "../core/router/connection-news.ts";
import { forgetDeadLettersOf, pruneDeadLetters } from "../core/router/dead-letters.ts";
import { tellBudgetWarnings } from "../core/router/budget-warnings.ts";
import { forgetTrafficOf } from "../core/router/activity.ts";
import { countDeliveries } from "../core/router/message-count.ts";
import { pruneNotices } from "../core/router/notices.ts";
import { pruneInbox, pruneKnownIds } from "../core/router/router.ts";
import { warnOfTrialEnds } from "../core/router/trial-warnings.ts";
import { pruneRequests } from "../core/tenants/tenants.ts";
import type { Context } from "../core/context.ts";
import type { Metrics } from "./metrics.ts";

/** Most of the time a job waits for somebody outside. */
const CONCURRENCY = 16;
const RESTART_MS = 1_000;
/** Of the 30 s that a shutdown may take. */
const STOP_MS = 15_000;

type Handlers = { [Name in JobName]: (payload: JobPayloads[Name], signal: AbortSignal) => Promise<unknown> };

export type JobsContext = Context &
  Omit<OrchestratorContext, "fleet"> & {
    /** As they are now: which gateway runtimes use depends on the daemons that live. */
    readFleet(): Promise<FleetSettings>;
    payLinks: PayLinks;
    connectLinks: ConnectLinks;
  };

/** What a job of each kind does. */
function createHandlers(ctx: JobsContext, metrics: Metrics): Handlers {
  return {
    "tenant.converge": async ({ tenantId }, signal) =>
      convergeTenant({ ...ctx, fleet: await ctx.readFleet() }, tenantId, signal),
    "tenant.rotate-keys": ({ tenantId }, signal) => advanceRotation(ctx, tenantId, signal),
    "tenant.purge": ({ tenantId }) =>
      purgeTenant({ ...ctx, endOutside: (id) => endConnectionsOf(ctx, id), forget }, tenantId),
    "rollout.advance": ({ rolloutId }) => advanceRollout(ctx, rolloutId),
    "connection.tell": (news) => tellConnectionNews(ctx, news),
    "stripe.project": (_payload, signal) =>
      projectStripeEvents(
        { ...ctx, prices: { basic: ctx.config.stripe.priceBasic, plus: ctx.config.stripe.pricePlus } },
        signal,
      ),
    "sweep.entitlement": (_payload, signal) => sweepEntitlement(ctx, signal),
    "sweep.trials": (_payload, signal) => warnOfTrialEnds(ctx, signal),
    "sweep.messages": (_payload, signal) => countDeliveries(ctx, signal),
    "sweep.usage": async (_payload, signal) => {
      await settleLostCalls(ctx, signal);
      await tellBudgetWarnings({ ...ctx, observe: metrics.models.warned }, signal);
    },
    "sweep.idle": () => sweepIdle({ ...ctx, idleMinutes: ctx.config.tenancy.idleMinutes }),
    "sweep.runtimes": async (_payload, signal) =>
      sweepRuntimes({ ...ctx, fleet: await ctx.readFleet(), observe: metrics.fleet.swept }, signal),
    "sweep.rotations": () => sweepRotations(ctx),
    "sweep.rollouts": () => sweepRollouts(ctx),
    "sweep.revocations": (_payload, signal) => sweepRevocations(ctx, signal),
    "sweep.connections": (_payload, signal) =>
      sweepConnections({ ...ctx, observe: metrics.integrations.noted }, signal),
    "sweep.retention": async (_payload, signal) => {
      await pruneInbox(ctx, signal);
      await pruneKnownIds(ctx, signal);
      await pruneDeadLetters(ctx, signal);
      await pruneNotices(ctx, signal);
      await pruneRequests(ctx, signal);
      await pruneEvents(ctx, signal);
      await pruneConnectLinks(ctx, signal);
      await pruneConnectionEvents(ctx, signal);
      await pruneSteps(ctx, signal);
      await forgetSilentDaemons(ctx.pool);
      await sweepPurges(ctx);
    },
  };
}

/** What is known of a tenant apart from its own row. */
async function forget(db: Db, tenantId: TenantId): Promise<void> {
  await keepRevenueOf(db, tenantId);
  await forgetEventsOf(db, tenantId);
  await forgetDeadLettersOf(db, tenantId);
  await forgetTrafficOf(db, tenantId);
}

/** One firing of each a minute, whatever the number of daemons (F84). */
const SCHEDULE: Partial<Record<JobName, string>> = {
  "sweep.entitlement": "* * * * *",
  "sweep.trials": "*/10 * * * *",
  "sweep.messages": "* * * * *",
  "sweep.usage": "* * * * *",
  "sweep.idle": "* * * * *",
  "sweep.runtimes": "* * * * *",
  "sweep.rotations": "* * * * *",
  "sweep.rollouts": "* * * * *",
  "sweep.revocations": "* * * * *",
  "sweep.connections": "* * * * *",
  "sweep.retention": "*/10 * * * *",
};

export type JobRunner = {
  /** Names under which this daemon locks jobs. */
  workerIds: () => string[];
  /**
   * Gives back jobs that this daemon has locked and does not run: the reply that brought them, or the news of their end, got
   * lost. What looks so only once may be on its way. @returns how many were given back.
   */
  giveLostBack(): Promise<number>;
  /** Ends what is under way. */
  stop(): Promise<void>;
};

/**
 * Runs jobs and the schedule until stopped. The runner ends when it can't record what became of a job, as when the
 * database goes away: another takes its place, and what it had locked is for whoever looks after jobs of the dead.
 */
export function startJobs(ctx: JobsContext, pool: pg.Pool, metrics: Metrics): JobRunner {
  const stopping = new AbortController();
  const underWay = new Set<string>();
  let suspects: string[] = [];
  let current: { runner: Runner; workerIds: ReadonlySet<string> } | undefined;

  async function keepRunning(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        current = await startRunner(ctx, pool, taskList(createHandlers(ctx, metrics), metrics, underWay));
        if (stopping.signal.aborted) await current.runner.stop();
        await current.runner.promise;
      } catch (error) {
        ctx.log.error({ error }, "jobs ended, they will be started again");
      }
      current = undefined;
      await pause(RESTART_MS, stopping.signal);
    }
  }

  const running = keepRunning();
  const workerIds = () => [...(current?.workerIds ?? [])];
  return {
    workerIds,
    async giveLostBack() {
      const { lost, unlocked } = await unlockLostJobs(pool, {
        workerIds: workerIds(),
        underWay: [...underWay],
        suspects,
      });
      suspects = lost;
      return unlocked.length;
    },
    async stop() {
      stopping.abort();
      const ended = async () => {
        // One that has just ended by itself can't be stopped.
        await current?.runner.stop().catch((error: unknown) => ctx.log.warn({ error }, "jobs had ended already"));
        // It goes on giving jobs back after stop() has settled.
        await running;
      };
      // One that lost its database in the middle of something may never say that it has ended.
      if (!(await endsWithin(STOP_MS, ended())))
        ctx.log.warn({}, "jobs did not end in time, others will take them over");
    },
  };
}

async function startRunner(ctx: JobsContext, pool: pg.Pool, tasks: TaskList) {
  const workerIds = new Set<string>();
  const events: WorkerEvents = new EventEmitter();
  events.on("pool:create", ({ workerPool }) => workerIds.add(workerPool.id));
  events.on("worker:create", ({ worker }) => workerIds.add(worker.workerId));
  const runner = await run({
    pgPool: pool,
    taskList: tasks,
    parsedCronItems: parseCronItems(
      Object.entries(SCHEDULE).map(([task, match]) => ({ task, match, identifier: task, options: { maxAttempts: 1 } })),
    ),
    // Without batches, a job whose end can't be recorded is an unhandled rejection, which ends the process.
    preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
    concurrency: CONCURRENCY,
    pollInterval: 2_000,
    noHandleSignals: true,
    events,
    logger: graphileLogger(ctx.log),
  });
  return { runner, workerIds };
}

/** `underWay` holds the ids of the jobs that are being done. */
function taskList(handlers: Handlers, metrics: Metrics, underWay: Set<string>): TaskList {
  return Object.fromEntries(
    Object.entries(handlers).map(([name, handler]) => [
      name,
      async (payload, helpers) => {
        const signal = helpers.abortSignal ?? new AbortController().signal;
        underWay.add(helpers.job.id);
        try {
          // The only writer of jobs is enqueueJob, which fits payload to name.
          await (handler as (payload: unknown, signal: AbortSignal) => Promise<unknown>)(payload, signal);
          metrics.jobs.inc({ name, result: "done" });
        } catch (error) {
          metrics.jobs.inc({ name, result: "failed" });
          throw error;
        } finally {
          underWay.delete(helpers.job.id);
        }
      },
    ]),
  );
}

function graphileLogger(log: Log): Logger {
  return new Logger((scope) => (level, message, meta) => {
    const fields = {
      scope: scope.label,
      job: scope.taskIdentifier,
      ...(meta?.["error"] === undefined ? {} : { error: meta["error"] }),
    };
    // One line per job is for debugging.
    if (level === "error") log.error(fields, message);
    else if (level === "warning") log.warn(fields, message);
    else log.debug(fields, message);
  });
}
