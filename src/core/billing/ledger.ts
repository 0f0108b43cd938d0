import type { StripeEvent } from "../adapters/stripe/stripe-event.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { enqueueJob } from "../platform/jobs.ts";
import * as store from "./store.ts";

/**
 * Keeps a verified event and has it projected, in one transaction. Stripe sends an event again until it is answered: a
 * repeated one changes nothing.
 */
export async function acceptStripeEvent(
  ctx: { db: Db; clock: Clock },
  event: StripeEvent,
  rawBody: Buffer,
): Promise<"accepted" | "duplicate"> {
  const now = ctx.clock.now();
  return ctx.db.transaction().execute(async (tx) => {
    const isNew = await store.insertEvent(tx, {
      ...event,
      payload: rawBody.toString("utf8"),
      receivedAt: now,
      nextAttemptAt: now,
    });
    if (!isNew) return "duplicate";
    await enqueueJob(tx, "stripe.project", {}, { key: "stripe.project" });
    return "accepted";
  });
}
