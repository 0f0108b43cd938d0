import { EventEmitter } from "node:events";
import { Logger, parseCronItems, run, type TaskList, type WorkerEvents } from "graphile-worker";
import type pg from "pg";
import { projectStripeEvents, sweepEntitlement } from "../core/billing/billing.ts";
import type { FleetSettings, OrchestratorContext } from "../core/orchestrator/orchestrator.ts";
import { convergeTenant, sweepRuntimes } from "../core/orchestrator/orchestrator.ts";
import { forgetSilentDaemons } from "../core/platform/daemons.ts";
import type { JobName, JobPayloads } from "../core/platform/jobs.ts";
import type { Log } from "../core/platform/log.ts";
import { pruneInbox, pruneKnownIds } from "../core/router/router.ts";
import type { Context } from "../core/context.ts";
import type { Metrics } from "./metrics.ts";

const CONCURRENCY = 8;

type Handlers = { [Name in JobName]: (payload: JobPayloads[Name], signal: AbortSignal) => Promise<unknown> };

export type JobsContext = Context &
  Omit<OrchestratorContext, "fleet"> & {
    /** As they are now: which gateway runtimes use depends on the daemons that live. */
    readFleet(): Promise<FleetSettings>;
  };

/** What a job of each kind does. */
function createHandlers(ctx: JobsContext): Handlers {
  return {
    "tenant.converge": async ({ tenantId }, signal) =>
      convergeTenant({ ...ctx, fleet: await ctx.readFleet() }, tenantId, signal),
    "stripe.project": (_payload, signal) =>
      projectStripeEvents(
        { ...ctx, prices: { basic: ctx.config.stripe.priceBasic, plus: ctx.config.stripe.pricePlus } },
        signal,
      ),
    "sweep.entitlement": (_payload, signal) => sweepEntitlement(ctx, signal),
    "sweep.runtimes": async () => sweepRuntimes({ ...ctx, fleet: await ctx.readFleet() }),
    "sweep.retention": async (_payload, signal) => {
      await pruneInbox(ctx, signal);
      await pruneKnownIds(ctx);
      await forgetSilentDaemons(ctx.pool);
    },
  };
}

/** One firing of each a minute, whatever the number of daemons (F84). */
const SCHEDULE: Partial<Record<JobName, string>> = {
  "sweep.entitlement": "* * * * *",
  "sweep.runtimes": "* * * * *",
  "sweep.retention": "*/10 * * * *",
};

export type JobRunner = {
  /** Names under which this daemon locks jobs. */
  workerIds: () => string[];
  /** Ends what is under way. */
  stop(): Promise<void>;
};

/** Runs jobs and the schedule until stopped. */
export async function startJobs(ctx: JobsContext, pool: pg.Pool, metrics: Metrics): Promise<JobRunner> {
  const workerIds = new Set<string>();
  const events: WorkerEvents = new EventEmitter();
  events.on("pool:create", ({ workerPool }) => workerIds.add(workerPool.id));
  events.on("worker:create", ({ worker }) => workerIds.add(worker.workerId));
  const runner = await run({
    pgPool: pool,
    taskList: taskList(createHandlers(ctx), metrics),
    parsedCronItems: parseCronItems(
      Object.entries(SCHEDULE).map(([task, match]) => ({ task, match, identifier: task, options: { maxAttempts: 1 } })),
    ),
    concurrency: CONCURRENCY,
    pollInterval: 2_000,
    noHandleSignals: true,
    events,
    logger: graphileLogger(ctx.log),
  });
  return {
    workerIds: () => [...workerIds],
    async stop() {
      await runner.stop();
      // It goes on giving jobs back after stop() has settled.
      await runner.promise;
    },
  };
}

function taskList(handlers: Handlers, metrics: Metrics): TaskList {
  return Object.fromEntries(
    Object.entries(handlers).map(([name, handler]) => [
      name,
      async (payload, helpers) => {
        const signal = helpers.abortSignal ?? new AbortController().signal;
        try {
          // The only writer of jobs is enqueueJob, which fits payload to name.
          await (handler as (payload: unknown, signal: AbortSignal) => Promise<unknown>)(payload, signal);
          metrics.jobs.inc({ name, result: "done" });
        } catch (error) {
          metrics.jobs.inc({ name, result: "failed" });
          throw error;
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
