import type { StripeEvent } from "../adapters/stripe/stripe-event.ts";
import { type Batcher, createBatcher } from "../platform/batcher.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { enqueueJob } from "../platform/jobs.ts";
import * as store from "./store.ts";

const MAX_BATCH = 250;

type Arrival = { event: StripeEvent; rawBody: Buffer };
type Acceptance = "accepted" | "duplicate";

/**
 * Keeps verified events and has them projected, in one transaction for all that arrive while the one before commits.
 * Stripe sends an event again until it is answered: a repeated one changes nothing.
 */
export function createLedger(ctx: { db: Db; clock: Clock }): Batcher<Arrival, Acceptance> {
  return createBatcher({ maxItems: MAX_BATCH, run: (arrivals) => acceptAll(ctx, arrivals) });
}

async function acceptAll(ctx: { db: Db; clock: Clock }, arrivals: readonly Arrival[]): Promise<Acceptance[]> {
  const now = ctx.clock.now();
  const rows = new Map(
    arrivals.map(({ event, rawBody }) => [
      event.id,
      { ...event, payload: rawBody.toString("utf8"), receivedAt: now, nextAttemptAt: now },
    ]),
  );
  const fresh = await ctx.db.transaction().execute(async (tx) => {
    // In the order of their ids, so that two daemons that are sent the same events can't wait for each other.
    const inserted = await store.insertEvents(
      tx,
      [...rows.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    );
    if (inserted.size > 0) await enqueueJob(tx, "stripe.project", {}, { key: "stripe.project" });
    return inserted;
  });
  // The first of equal ones is the one that was kept.
  return arrivals.map(({ event }) => (fresh.delete(event.id) ? "accepted" : "duplicate"));
}
