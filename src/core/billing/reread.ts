import { z } from "zod";
import { type StripeReader, type StripeObjectKind } from "../adapters/stripe/stripe-api.ts";
import { stripeObjectKind } from "../adapters/stripe/stripe-event.ts";
import { type Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { OpenClawError } from "../platform/errors.ts";
import { pause } from "../platform/pause.ts";
import { takeReadSlot } from "./read-slots.ts";
import type { StripeEventRow } from "./store.ts";

/** What Stripe says now. `object` is undefined when it has no such object: then the event's own words count. */
export type Reading = { object: Record<string, unknown> | undefined; charge?: Record<string, unknown>; readAt: Date };
/** By the key that `readingKey` gives; an error means: not now. */
export type Readings = ReadonlyMap<string, Reading | { error: Error }>;

type Wanted = { key: string; kind: StripeObjectKind; id: string };

const subject = z.object({ data: z.object({ object: z.object({ id: z.string().min(1) }) }) });

/** Names the object that an event is about; undefined when there is nothing to be read again. */
export function readingKey(type: string, body: unknown): Wanted | undefined {
  const kind = stripeObjectKind(type);
  const parsed = subject.safeParse(body);
  // A deleted customer is not there to be read.
  if (kind === undefined || kind === "customer" || !parsed.success) return undefined;
  const { id } = parsed.data.data.object;
  return { key: `${kind}:${id}`, kind, id };
}

/**
 * Reads every object that the events are about, each once however many of them are about it, no faster than Stripe's
 * limit for each kind over all daemons. Once Stripe refuses a kind, the rest of it is left for later without asking.
 */
export async function rereadObjects(
  ctx: { db: Db; clock: Clock; stripe: StripeReader },
  events: readonly { event: StripeEventRow; body: unknown }[],
  signal: AbortSignal,
): Promise<Readings> {
  const wanted = new Map(
    events.flatMap(({ event, body }) => readingKey(event.type, body) ?? []).map((one) => [one.key, one]),
  );
  const readings = new Map<string, Reading | { error: Error }>();
  const refused = new Map<StripeObjectKind, Error>();
  await Promise.all(
    [...wanted.values()].map(async (one) => {
      readings.set(one.key, await readOne(ctx, one, refused, signal));
    }),
  );
  return readings;
}

async function readOne(
  ctx: { db: Db; clock: Clock; stripe: StripeReader },
  { kind, id }: Wanted,
  refused: Map<StripeObjectKind, Error>,
  signal: AbortSignal,
): Promise<Reading | { error: Error }> {
  const retrieve = async (of: StripeObjectKind, objectId: string) => {
    await pause(await takeReadSlot(ctx.db, of), signal);
    const refusal = refused.get(of);
    if (refusal !== undefined) throw refusal;
    signal.throwIfAborted();
    return ctx.stripe.retrieve(of, objectId, signal);
  };
  const readAt = ctx.clock.now();
  try {
    const object = await retrieve(kind, id);
    const chargeId = kind === "dispute" ? idOf(object?.["charge"]) : undefined;
    // A dispute names no customer: its charge does.
    const charge = chargeId === undefined ? undefined : await retrieve("charge", chargeId);
    return charge === undefined ? { object, readAt } : { object, charge, readAt };
  } catch (error) {
    // The events wait; only what Stripe or the way to it refuses is expected here, the rest is a bug.
    if (!signal.aborted && !(error instanceof OpenClawError)) throw error;
    const reason = error instanceof Error ? error : new Error(String(error));
    refused.set(kind, reason);
    return { error: reason };
  }
}

function idOf(related: unknown): string | undefined {
  if (typeof related === "string") return related;
  return z.object({ id: z.string() }).safeParse(related).data?.id;
}
