import { z } from "zod";
import type { StripeReader } from "../adapters/stripe/stripe-api.ts";
import { readStripeNews, type StripeNews } from "../adapters/stripe/stripe-event.ts";
import { addMs } from "../platform/clock.ts";
import { OpenClawError } from "../platform/errors.ts";
import { enqueueJob } from "../platform/jobs.ts";
import type { Log } from "../platform/log.ts";
import { type Item, type Outcome, type ProjectionContext, projectNews } from "./project-event.ts";
import { type Reading, readingKey, type Readings, rereadObjects } from "./reread.ts";
import * as store from "./store.ts";
import type { StripeEventRow } from "./store.ts";

const BATCH_SIZE = 250;
/** Objects read at once take two seconds at Stripe's pace. */
const LANES_TO_READ = 50;
/** Batches under way at once, each of other customers: while one waits for the database, another is judged. */
const AT_ONCE = 3;
const MAX_ATTEMPTS = 8;
const FIRST_RETRY_MS = 5_000;
const READ_AGAIN_MS = 10_000;
/** Longer than reading takes: whoever dies over it is followed by another. */
const LEASE_MS = 120_000;

export type ProjectionResult = { projected: number; ignored: number; unmatched: number; failed: number };

type Context = ProjectionContext & {
  log: Log;
  /** Undefined without an API key: then the events' own words count. */
  stripe?: StripeReader | undefined;
};

/** An event with what its text holds; `news` is an error when that isn't what its type promises. */
type Read = { event: StripeEventRow; news: StripeNews | undefined | Error; at: Date };

/**
 * Applies every Stripe event that is due, oldest first, until none is left; what is due later gets a job of its own. Any
 * number of processes may do so at once: events of one customer are applied one at a time. With a Stripe API, each
 * event's object is read again and that is applied. An event that can't be applied holds up no other: it is tried again
 * at growing intervals, then left as `failed` for an operator; while Stripe can't be read, events just wait.
 */
export async function projectStripeEvents(ctx: Context, signal: AbortSignal): Promise<ProjectionResult> {
  const result: ProjectionResult = { projected: 0, ignored: 0, unmatched: 0, failed: 0 };
  await projectAll(ctx, result, signal);
  // A dispute and the first news of its charge, applied at the same moment, can't see each other.
  if (result.unmatched > 0 && (await store.reviveKnownCharges(ctx.db, ctx.clock.now())))
    await projectAll(ctx, result, signal);
  await scheduleRetries(ctx);
  return result;
}

async function projectAll(ctx: Context, result: ProjectionResult, signal: AbortSignal): Promise<void> {
  // One share may find tenants for unmatched events of another that has ended: again, until nothing is left.
  while (await projectShare(ctx, { index: 0, of: 1 }, result, signal)) {
    const shares = Array.from({ length: AT_ONCE }, (_, index) => ({ index, of: AT_ONCE }));
    const ended = await Promise.allSettled(shares.map((share) => projectShare(ctx, share, result, signal)));
    for (const one of ended) if (one.status === "rejected") throw one.reason;
  }
}

/**
 * Applies what is due in a share of the lanes until nothing is left. All lanes together are left early, when there is
 * enough to be shared.
 * @returns whether it was left early.
 */
async function projectShare(
  ctx: Context,
  share: store.LaneShare,
  result: ProjectionResult,
  signal: AbortSignal,
): Promise<boolean> {
  const busyLanes = new Set<string>();
  while (!signal.aborted) {
    const due = await takeDue(ctx, { share, busyLanes: [...busyLanes] }, signal);
    if (due === undefined) return false;
    // Whoever holds a lane looks for due events again after its present ones, so it will find these.
    for (const lane of await projectBatch(ctx, due, result)) busyLanes.add(lane);
    if (share.of === 1 && due.length >= BATCH_SIZE && busyLanes.size === 0) return true;
  }
  return false;
}

/** The next events to be applied, read; undefined when none is due. */
async function takeDue(ctx: Context, lanes: store.LaneChoice, signal: AbortSignal): Promise<Read[] | undefined> {
  const now = ctx.clock.now();
  if (ctx.stripe === undefined) {
    const due = await store.listDueEvents(ctx.db, now, lanes, BATCH_SIZE);
    return due.length === 0 ? undefined : due.map((event) => readEvent(event, parseBody(event), undefined));
  }
  const until = addMs(now, LEASE_MS);
  const due = await store.leaseDueEvents(ctx.db, { now, until, lanes, limit: LANES_TO_READ });
  if (due.length === 0) return undefined;
  const parsed = due.map((event) => ({ event, body: parseBody(event) }));
  const readings = await rereadObjects({ ...ctx, stripe: ctx.stripe }, parsed, signal);
  const waiting = parsed.flatMap(({ event, body }) => {
    const reading = readingOf(readings, event, body);
    return reading !== undefined && "error" in reading ? [{ event, error: reading.error }] : [];
  });
  await putOff(ctx, waiting, signal);
  const refused = new Set(waiting.map(({ event }) => event));
  return parsed
    .filter(({ event }) => !refused.has(event))
    .map(({ event, body }) => {
      const reading = readingOf(readings, event, body);
      return readEvent(event, body, reading !== undefined && "error" in reading ? undefined : reading);
    });
}

function readingOf(readings: Readings, event: StripeEventRow, body: unknown) {
  const wanted = readingKey(event.type, body);
  return wanted === undefined ? undefined : readings.get(wanted.key);
}

/** Nothing is wrong with these events, so that no attempt is counted. */
async function putOff(
  ctx: Context,
  waiting: readonly { event: StripeEventRow; error: Error }[],
  signal: AbortSignal,
): Promise<void> {
  const [first] = waiting;
  if (first === undefined) return;
  const now = ctx.clock.now();
  // Ending is no reason to wait.
  const nextAttemptAt = signal.aborted ? now : addMs(now, READ_AGAIN_MS);
  await store.deferEvents(
    ctx.db,
    waiting.map(({ event }) => event.id),
    { nextAttemptAt, lastError: `Stripe could not be read: ${describeFailure(first.error)}` },
  );
  ctx.log.warn(
    { error: describeFailure(first.error), events: waiting.length },
    "Stripe could not be read, events wait",
  );
}

function parseBody({ payload }: StripeEventRow): unknown {
  return JSON.parse(payload);
}

function readEvent(event: StripeEventRow, body: unknown, reading: Reading | undefined): Read {
  const object = reading?.object;
  const isState = event.type.startsWith("customer.subscription.") && reading !== undefined && object !== undefined;
  try {
    const news = readStripeNews(event.type, object === undefined ? body : { data: { object } });
    // What was read is as new as the reading; other news happened when the event says.
    const at = isState && reading.readAt > event.createdAt ? reading.readAt : event.createdAt;
    return { event, news: withCharge(news, reading), at };
  } catch (error) {
    if (error instanceof z.ZodError) return { event, news: error, at: event.createdAt };
    throw error;
  }
}

/** Whose dispute it is, when only the charge tells. */
function withCharge(news: StripeNews | undefined, reading: Reading | undefined): StripeNews | undefined {
  if (news?.kind !== "dispute" || reading?.charge === undefined) return news;
  const charge = readStripeNews("charge.succeeded", { data: { object: reading.charge } });
  if (charge === undefined || charge.kind === "note") return charge;
  return {
    ...news,
    customerId: charge.customerId,
    tenantReferences: [...news.tenantReferences, ...charge.tenantReferences],
  };
}

/** @returns lanes that others hold, whose events are left to them. */
async function projectBatch(ctx: Context, due: readonly Read[], result: ProjectionResult): Promise<string[]> {
  try {
    const { busy, counts } = await applyTogether(ctx, due);
    for (const status of counts) result[status]++;
    return busy;
  } catch (error) {
    const [first, another] = due;
    if (first === undefined) throw error;
    if (another === undefined) {
      await noteFailure(ctx, first.event, error);
      result.failed++;
      return [];
    }
  }
  // One of them is at fault. To keep the others going, each is applied in a transaction of its own.
  const busy: string[] = [];
  for (const one of due) if (!busy.includes(one.event.lane)) busy.push(...(await projectBatch(ctx, [one], result)));
  return busy;
}

async function applyTogether(ctx: Context, due: readonly Read[]) {
  return ctx.db.transaction().execute(async (tx) => {
    const inside = { ...ctx, db: tx };
    const lanes = [...new Set(due.map(({ event }) => event.lane))];
    const held = new Set(await store.tryLockLanes(tx, lanes));
    const busy = lanes.filter((lane) => !held.has(lane));
    const ours = due.filter(({ event }) => held.has(event.lane));
    const others = due.filter(({ event }) => !held.has(event.lane));
    if (ctx.stripe !== undefined) await releaseLeases(inside, others);
    const claimed = await store.claimEvents(
      tx,
      ours.map(({ event }) => event.id),
    );
    const pending = ours.filter(({ event }) => claimed.has(event.id));
    const counts: (keyof ProjectionResult)[] = [];
    for (const { event, news } of pending) {
      if (!(news instanceof Error)) continue;
      await noteFailure(inside, event, news);
      counts.push("failed");
    }
    const readable = pending.flatMap(({ event, news, at }) =>
      news instanceof Error ? [] : [{ event, item: { news, source: { eventId: event.id, at } } satisfies Item }],
    );
    const { outcomes, revivedLanes } = await projectNews(
      inside,
      readable.map(({ item }) => item),
    );
    counts.push(
      ...(await finish(
        inside,
        readable.map(({ event }) => event),
        outcomes,
      )),
    );
    // Only now: some of them may be of this very batch.
    if (revivedLanes.length > 0) await store.reviveUnmatched(tx, revivedLanes, ctx.clock.now());
    return { busy, counts };
  });
}

async function releaseLeases(ctx: Context, others: readonly Read[]): Promise<void> {
  const ids = others.map(({ event }) => event.id);
  if (ids.length > 0)
    await store.deferEvents(ctx.db, ids, { nextAttemptAt: addMs(ctx.clock.now(), 1_000), lastError: null });
}

async function finish(
  ctx: Context,
  events: readonly StripeEventRow[],
  outcomes: readonly Outcome[],
): Promise<(keyof ProjectionResult)[]> {
  const done: store.FinishedEvent[] = [];
  const counts: (keyof ProjectionResult)[] = [];
  for (const [index, event] of events.entries()) {
    const outcome = outcomes[index];
    if (outcome === undefined) throw new Error(`${events.length} events gave ${outcomes.length} outcomes`);
    if (outcome.status === "refused") {
      await noteFailure(ctx, event, outcome.error);
      counts.push("failed");
    } else {
      done.push({ id: event.id, status: outcome.status, tenantId: outcome.tenantId });
      counts.push(outcome.status);
    }
  }
  await store.finishEvents(ctx.db, done, ctx.clock.now());
  return counts;
}

async function noteFailure(ctx: Context, { id, attempts: before }: StripeEventRow, error: unknown): Promise<void> {
  ctx.log.warn({ error: describeFailure(error), eventId: id }, "Stripe event could not be applied");
  const now = ctx.clock.now();
  const attempts = before + 1;
  await store.recordFailure(ctx.db, id, {
    attempts,
    lastError: describeFailure(error),
    nextAttemptAt: attempts >= MAX_ATTEMPTS ? null : addMs(now, FIRST_RETRY_MS * 4 ** before),
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
