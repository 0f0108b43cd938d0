import { type Insertable, type Selectable, sql } from "kysely";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import type { StripeEvents, StripeSubscriptions, TenantBilling } from "../platform/schema.ts";

/** At most, however many wait in one lane. */
const LEASED_AT_ONCE = 1_000;

export type StripeEventRow = Selectable<StripeEvents>;

/** Keeps events, each once. @returns the ids of those that were new. */
export async function insertEvents(db: Db, rows: Insertable<StripeEvents>[]): Promise<Set<string>> {
  const inserted = await db
    .insertInto("stripeEvents")
    .values(rows)
    .onConflict((conflict) => conflict.column("id").doNothing())
    .returning("id")
    .execute();
  return new Set(inserted.map(({ id }) => id));
}

/** One of the parts that all lanes are dealt out to. */
export type LaneShare = { index: number; of: number };
/** The lanes of a share but for those that somebody else holds. */
export type LaneChoice = { share: LaneShare; busyLanes: readonly string[] };

function isChosen({ share, busyLanes }: LaneChoice) {
  return sql<boolean>`(hashtext(lane) & 1023) % ${share.of}::integer = ${share.index} AND NOT lane = ANY (${busyLanes})`;
}

/**
 * Pending events of the chosen lanes that are due, oldest first by Stripe's time. Of one second, checkouts come
 * first: they tell that a subscription which already says `active` is not paid for yet (F67).
 */
export async function listDueEvents(db: Db, now: Date, lanes: LaneChoice, limit: number): Promise<StripeEventRow[]> {
  return db
    .selectFrom("stripeEvents")
    .selectAll()
    .where("status", "=", "pending")
    .where("nextAttemptAt", "<=", now)
    .where(isChosen(lanes))
    .orderBy("createdAt")
    .orderBy(sql`type LIKE 'checkout.%'`, "desc")
    .orderBy("receivedAt")
    .orderBy("id")
    .limit(limit)
    .execute();
}

/**
 * Takes all due events of the lanes that have waited longest, at most `limit` of them, for whoever reads their objects from
 * Stripe: until then nobody else takes them. In the order of `listDueEvents`.
 */
export async function leaseDueEvents(
  db: Db,
  { now, until, lanes, limit }: { now: Date; until: Date; lanes: LaneChoice; limit: number },
): Promise<StripeEventRow[]> {
  const { rows } = await sql<StripeEventRow>`
    WITH oldest AS (
      SELECT lane FROM stripe_events
      WHERE status = 'pending' AND next_attempt_at <= ${now} AND ${isChosen(lanes)}
      GROUP BY lane ORDER BY min(created_at) LIMIT ${limit}
    ), due AS (
      SELECT id FROM stripe_events
      WHERE status = 'pending' AND next_attempt_at <= ${now} AND lane IN (SELECT lane FROM oldest)
      LIMIT ${LEASED_AT_ONCE} FOR UPDATE SKIP LOCKED
    ), leased AS (
      UPDATE stripe_events SET next_attempt_at = ${until} WHERE id IN (SELECT id FROM due) RETURNING *
    )
    SELECT * FROM leased ORDER BY created_at, type LIKE 'checkout.%' DESC, received_at, id`.execute(db);
  return rows;
}

/** Has events that are still pending wait. */
export async function deferEvents(
  db: Db,
  ids: readonly string[],
  { nextAttemptAt, lastError }: { nextAttemptAt: Date; lastError: string | null },
): Promise<void> {
  await db
    .updateTable("stripeEvents")
    .set({ nextAttemptAt, lastError })
    .where(sql<boolean>`id = ANY (${ids})`)
    .where("status", "=", "pending")
    .execute();
}

/** Holds those of the lanes that nobody else holds until the transaction ends, and gives them. */
export async function tryLockLanes(db: Db, lanes: readonly string[]): Promise<string[]> {
  const { rows } = await sql<{ lane: string; locked: boolean }>`
    SELECT lane, pg_try_advisory_xact_lock(hashtextextended('stripe-lane:' || lane, 0)) AS locked
    FROM unnest(${lanes}::text[]) AS lane`.execute(db);
  return rows.filter(({ locked }) => locked).map(({ lane }) => lane);
}

/** Locks those of the events that are still to be done, and gives their ids. */
export async function claimEvents(db: Db, ids: readonly string[]): Promise<Set<string>> {
  const rows = await db
    .selectFrom("stripeEvents")
    .select("id")
    .where(sql<boolean>`id = ANY (${ids})`)
    .where("status", "=", "pending")
    .forUpdate()
    .skipLocked()
    .execute();
  return new Set(rows.map(({ id }) => id));
}

export type FinishedEvent = { id: string; status: "projected" | "ignored" | "unmatched"; tenantId: TenantId | null };

export async function finishEvents(db: Db, events: readonly FinishedEvent[], finishedAt: Date): Promise<void> {
  if (events.length === 0) return;
  await sql`
    UPDATE stripe_events AS event
    SET status = done.status, tenant_id = done.tenant_id, finished_at = ${finishedAt}, last_error = NULL
    FROM unnest(
      ${events.map(({ id }) => id)}::text[],
      ${events.map(({ status }) => status)}::text[],
      ${events.map(({ tenantId }) => tenantId)}::uuid[]
    ) AS done (id, status, tenant_id)
    WHERE event.id = done.id`.execute(db);
}

/** Notes a failed attempt; with `nextAttemptAt` null there is no other. An event that is done by now stays as it is. */
export async function recordFailure(
  db: Db,
  id: string,
  failure: { attempts: number; lastError: string; nextAttemptAt: Date | null; at: Date },
): Promise<void> {
  const { attempts, lastError, nextAttemptAt, at } = failure;
  await db
    .updateTable("stripeEvents")
    .set(
      nextAttemptAt === null
        ? { attempts, lastError, status: "failed", finishedAt: at }
        : { attempts, lastError, nextAttemptAt },
    )
    .where("id", "=", id)
    .where("status", "=", "pending")
    .execute();
}

export async function findNextDue(db: Db): Promise<Date | undefined> {
  const row = await db
    .selectFrom("stripeEvents")
    .select("nextAttemptAt")
    .where("status", "=", "pending")
    .orderBy("nextAttemptAt")
    .limit(1)
    .executeTakeFirst();
  return row?.nextAttemptAt;
}

/** Gives events of these lanes that found no tenant another try. */
export async function reviveUnmatched(db: Db, lanes: readonly string[], now: Date): Promise<void> {
  await db
    .updateTable("stripeEvents")
    .set({ status: "pending", nextAttemptAt: now, finishedAt: null })
    .where("status", "=", "unmatched")
    .where(sql<boolean>`lane = ANY (${lanes})`)
    .execute();
}

/** The same for those in the lane of a charge that has become known. @returns whether there were any. */
export async function reviveKnownCharges(db: Db, now: Date): Promise<boolean> {
  const { numAffectedRows = 0n } = await sql`
    UPDATE stripe_events SET status = 'pending', next_attempt_at = ${now}, finished_at = NULL
    WHERE status = 'unmatched' AND type LIKE 'charge.dispute.%' AND (
      EXISTS (SELECT FROM stripe_charges WHERE id = lane) OR EXISTS (SELECT FROM stripe_payments WHERE charge_id = lane)
    )`.execute(db);
  return numAffectedRows > 0n;
}

export async function listAccounts(db: Db, tenantIds: readonly TenantId[]) {
  return db.selectFrom("tenantBilling").selectAll().where("tenantId", "in", tenantIds).execute();
}

export async function listSubscriptions(db: Db, tenantIds: readonly TenantId[]) {
  return db.selectFrom("stripeSubscriptions").selectAll().where("tenantId", "in", tenantIds).execute();
}

/**
 * SQL for what `parseBilling` reads: the billing of the tenant with the id `tenantId`, an SQL expression, as one JSON value. For
 * a query that runs with every update, which can't afford two more.
 */
export function billingAsJson(tenantId: string): string {
  return `(
    SELECT json_build_object('account', row_to_json(account), 'subscriptions', coalesce((
      SELECT json_agg(row_to_json(one)) FROM stripe_subscriptions AS one WHERE one.tenant_id = account.tenant_id
    ), '[]'::json)) FROM tenant_billing AS account WHERE account.tenant_id = ${tenantId}
  )`;
}

type JsonRow = Record<string, unknown>;
export type BillingJson = { account: JsonRow; subscriptions: JsonRow[] };

const DATES = new Set([
  "currentPeriodEnd",
  "startedAt",
  "statusAsOf",
  "paymentFailedAt",
  "nextPaymentAttempt",
  "lastPaidAt",
  "invoiceAsOf",
  "customerDeletedAt",
  "updatedAt",
]);

/** The rows that `billingAsJson` has packed. */
export function parseBilling({ account, subscriptions }: BillingJson) {
  return {
    account: toRow(account) as Selectable<TenantBilling>,
    subscriptions: subscriptions.map((row) => toRow(row) as Selectable<StripeSubscriptions>),
  };
}

function toRow(json: JsonRow): JsonRow {
  return Object.fromEntries(
    Object.entries(json).map(([column, value]) => {
      const key = column.replace(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase());
      return [key, typeof value === "string" && DATES.has(key) ? new Date(value) : value];
    }),
  );
}
