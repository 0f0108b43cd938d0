import { z } from "zod";
import { addMs } from "../platform/clock.ts";
import { OpenClawError } from "../platform/errors.ts";
import { enqueueJob } from "../platform/jobs.ts";
import type { Log } from "../platform/log.ts";
import { type Outcome, type ProjectionContext, projectEvent } from "./project-event.ts";
import * as store from "./store.ts";

const BATCH_SIZE = 100;
const MAX_ATTEMPTS = 8;
const FIRST_RETRY_MS = 5_000;

export type ProjectionResult = { projected: number; ignored: number; unmatched: number; failed: number };

/**
 * Applies every Stripe event that is due, oldest first, until none is left; what is due later gets a job of its own. Any
 * number of processes may do so at once: events of one customer are applied one at a time. An event that can't be applied
 * holds up no other: it is tried again at growing intervals, then left as `failed` for an operator.
 */
export async function projectStripeEvents(
  ctx: ProjectionContext & { log: Log },
  signal: AbortSignal,
): Promise<ProjectionResult> {
  const result: ProjectionResult = { projected: 0, ignored: 0, unmatched: 0, failed: 0 };
  const busyLanes = new Set<string>();
  while (!signal.aborted) {
    const due = await store.listDueEvents(ctx.db, ctx.clock.now(), [...busyLanes], BATCH_SIZE);
    if (due.length === 0) break;
    for (const event of due) {
      if (signal.aborted) break;
      if (busyLanes.has(event.lane)) continue;
      const outcome = await projectOne(ctx, event);
      // Whoever holds the lane looks for due events again after its present one, so it will find this one.
      if (outcome === "busy") busyLanes.add(event.lane);
      else if (outcome !== "gone") result[outcome]++;
    }
  }
  await scheduleRetries(ctx);
  return result;
}

async function projectOne(
  ctx: ProjectionContext & { log: Log },
  { id, lane, attempts }: store.DueEvent,
): Promise<Outcome["status"] | "failed" | "busy" | "gone"> {
  try {
    return await ctx.db.transaction().execute(async (tx) => {
      if (!(await store.tryLockLane(tx, lane))) return "busy";
      const event = await store.claimEvent(tx, id, ctx.clock.now());
      if (event === undefined) return "gone";
      const outcome = await projectEvent({ ...ctx, db: tx }, event);
      await store.finishEvent(tx, id, { ...outcome, finishedAt: ctx.clock.now() });
      return outcome.status;
    });
  } catch (error) {
    // To keep the others going: the transaction is rolled back, and the attempt is noted in one of its own.
    ctx.log.warn({ error: describeFailure(error), eventId: id }, "Stripe event could not be applied");
    await noteFailure(ctx, { id, attempts: attempts + 1, error });
    return "failed";
  }
}

async function noteFailure(
  ctx: ProjectionContext,
  failure: { id: string; attempts: number; error: unknown },
): Promise<void> {
  const { id, attempts, error } = failure;
  const now = ctx.clock.now();
  const retryInMs = FIRST_RETRY_MS * 4 ** (attempts - 1);
  await store.recordFailure(ctx.db, id, {
    attempts,
    lastError: describeFailure(error),
    nextAttemptAt: attempts >= MAX_ATTEMPTS ? null : addMs(now, retryInMs),
    at: now,
  });
}

/** What went wrong without a word of the payload, which holds names and addresses of people. */
function describeFailure(error: unknown): string {
  if (error instanceof z.ZodError) {
    return `not the expected shape: ${error.issues.map((issue) => `${issue.path.join(".")} (${issue.code})`).join(", ")}`;
  }
  if (error instanceof OpenClawError) return `${error.code}: ${error.message}`;
  if (!(error instanceof Error)) return "unknown error";
  return "code" in error ? `${error.name} ${String(error.code)}` : error.name;
}

/** Under a key of its own: under that of new events, this job would replace theirs and hold them up. */
async function scheduleRetries(ctx: ProjectionContext): Promise<void> {
  const next = await store.findNextDue(ctx.db);
  if (next === undefined) return;
  const delayMs = Math.max(1_000, next.getTime() - ctx.clock.now().getTime());
  await enqueueJob(ctx.db, "stripe.project", {}, { key: "stripe.project.later", delayMs });
}
