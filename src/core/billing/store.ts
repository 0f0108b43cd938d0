import { type Insertable, type Selectable, sql } from "kysely";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import type { StripeEvents, StripeSubscriptions, TenantBilling } from "../platform/schema.ts";
import type { Subscription } from "./subscription.ts";

export type StripeEventRow = Selectable<StripeEvents>;
export type DueEvent = Pick<StripeEventRow, "id" | "lane" | "attempts">;

/** Whether the event was new. */
export async function insertEvent(db: Db, row: Insertable<StripeEvents>): Promise<boolean> {
  const inserted = await db
    .insertInto("stripeEvents")
    .values(row)
    .onConflict((conflict) => conflict.column("id").doNothing())
    .returning("id")
    .executeTakeFirst();
  return inserted !== undefined;
}

/**
 * Pending events that are due, oldest first by Stripe's time, without those of `busyLanes`. Of one second, checkouts come
 * first: they tell that a subscription which already says `active` is not paid for yet (F67).
 */
export async function listDueEvents(
  db: Db,
  now: Date,
  busyLanes: readonly string[],
  limit: number,
): Promise<DueEvent[]> {
  let query = db
    .selectFrom("stripeEvents")
    .select(["id", "lane", "attempts"])
    .where("status", "=", "pending")
    .where("nextAttemptAt", "<=", now)
    .orderBy("createdAt")
    .orderBy(sql`type LIKE 'checkout.%'`, "desc")
    .orderBy("receivedAt")
    .orderBy("id")
    .limit(limit);
  if (busyLanes.length > 0) query = query.where("lane", "not in", busyLanes);
  return query.execute();
}

/** Holds the lane until the transaction ends; false while another process holds it. */
export async function tryLockLane(db: Db, lane: string): Promise<boolean> {
  const key = `stripe-lane:${lane}`;
  const { rows } = await sql<{
    locked: boolean;
  }>`SELECT pg_try_advisory_xact_lock(hashtextextended(${key}, 0)) AS locked`.execute(db);
  return rows[0]?.locked === true;
}

/** The event, locked, if it is still to be done. */
export async function claimEvent(db: Db, id: string, now: Date): Promise<StripeEventRow | undefined> {
  return db
    .selectFrom("stripeEvents")
    .selectAll()
    .where("id", "=", id)
    .where("status", "=", "pending")
    .where("nextAttemptAt", "<=", now)
    .forUpdate()
    .skipLocked()
    .executeTakeFirst();
}

export async function finishEvent(
  db: Db,
  id: string,
  outcome: { status: "projected" | "ignored" | "unmatched"; tenantId: TenantId | null; finishedAt: Date },
): Promise<void> {
  await db
    .updateTable("stripeEvents")
    .set({ ...outcome, lastError: null })
    .where("id", "=", id)
    .execute();
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

/** Gives events of a lane that found no tenant another try. */
export async function reviveUnmatched(db: Db, lane: string, now: Date): Promise<void> {
  await db
    .updateTable("stripeEvents")
    .set({ status: "pending", nextAttemptAt: now, finishedAt: null })
    .where("status", "=", "unmatched")
    .where("lane", "=", lane)
    .execute();
}

export async function findSubscription(db: Db, id: string): Promise<Selectable<StripeSubscriptions> | undefined> {
  return db.selectFrom("stripeSubscriptions").selectAll().where("id", "=", id).executeTakeFirst();
}

export async function saveSubscription(
  db: Db,
  tenantId: TenantId,
  subscription: Subscription,
  now: Date,
): Promise<void> {
  const row = { ...subscription, tenantId, updatedAt: now };
  await db
    .insertInto("stripeSubscriptions")
    .values(row)
    .onConflict((conflict) => conflict.column("id").doUpdateSet(row))
    .execute();
}

/** The tenant's billing row, made when missing; an undefined customer leaves the known one. */
export async function saveCustomer(
  db: Db,
  tenantId: TenantId,
  customerId: string | undefined,
  now: Date,
): Promise<void> {
  const customer = customerId === undefined ? {} : { stripeCustomerId: customerId };
  await db
    .insertInto("tenantBilling")
    .values({ tenantId, ...customer, updatedAt: now })
    .onConflict((conflict) => conflict.column("tenantId").doUpdateSet({ ...customer, updatedAt: now }))
    .execute();
}

export async function findTenantsByCustomer(db: Db, customerId: string): Promise<TenantId[]> {
  const rows = await db
    .selectFrom("tenantBilling")
    .select("tenantId")
    .where("stripeCustomerId", "=", customerId)
    .union(db.selectFrom("stripeSubscriptions").select("tenantId").where("customerId", "=", customerId))
    .execute();
  return rows.map((row) => row.tenantId);
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
