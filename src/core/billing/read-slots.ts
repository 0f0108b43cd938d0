import { sql } from "kysely";
import type { StripeObjectKind } from "../adapters/stripe/stripe-api.ts";
import type { Db } from "../platform/db.ts";

/** Stripe's own limit for an endpoint, shared by everything that uses the account's key. */
export const READS_PER_SECOND = 25;
const SPACING_MS = 1_000 / READS_PER_SECOND;

/** Takes the next moment at which an object of `kind` may be read, over all daemons. @returns how long to wait for it. */
export async function takeReadSlot(db: Db, kind: StripeObjectKind): Promise<number> {
  const { rows } = await sql<{ waitMs: number }>`
    INSERT INTO stripe_read_slots AS slot (kind, next_at)
    VALUES (${kind}, clock_timestamp() + ${SPACING_MS} * interval '1 millisecond')
    ON CONFLICT (kind) DO UPDATE
      SET next_at = greatest(slot.next_at, clock_timestamp()) + ${SPACING_MS} * interval '1 millisecond'
    RETURNING (1000 * extract(epoch FROM next_at - clock_timestamp()))::float8 - ${SPACING_MS} AS wait_ms`.execute(db);
  return Math.max(0, rows[0]?.waitMs ?? 0);
}
