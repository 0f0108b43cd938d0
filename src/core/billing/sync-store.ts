import { sql } from "kysely";
import type pg from "pg";
import type { Db } from "../platform/db.ts";
import { ConflictError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";

const LOCK = "hashtextextended('billing-sync', 0)";

/** One at a time over everybody: it is a lock of the connection, which ends with it. */
export async function withSyncLock<Result>(pool: pg.Pool, work: () => Promise<Result>): Promise<Result> {
  const client = await pool.connect();
  try {
    const { rows } = await client.query<{ taken: boolean }>(`SELECT pg_try_advisory_lock(${LOCK}) AS taken`);
    if (rows[0]?.taken !== true)
      throw new ConflictError("sync_running", "Another comparison with Stripe is under way; wait for it to end.");
    const result = await work();
    await client.query(`SELECT pg_advisory_unlock(${LOCK})`);
    return result;
  } finally {
    // Whatever else happened: a lock ends with its connection.
    client.release(true);
  }
}

export type Progress = { startedAt: Date; after: string | undefined };

/** Begins a comparison, or goes on with the one that was broken off. */
export async function beginSync(db: Db, { restart, startedAt }: Progress & { restart: boolean }): Promise<Progress> {
  if (restart) await endSync(db);
  await db
    .insertInto("billingSyncs")
    .values({ startedAt })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const row = await db.selectFrom("billingSyncs").selectAll().executeTakeFirstOrThrow();
  return { startedAt: row.startedAt, after: row.afterId ?? undefined };
}

export async function saveProgress(db: Db, afterId: string): Promise<void> {
  await db.updateTable("billingSyncs").set({ afterId }).execute();
}

export async function endSync(db: Db): Promise<void> {
  await db.deleteFrom("billingSyncs").execute();
}

/** Subscriptions that are not over and of which nothing was heard since `startedAt`. */
export async function findUnseen(db: Db, startedAt: Date): Promise<{ id: string; tenantId: TenantId }[]> {
  return db
    .selectFrom("stripeSubscriptions")
    .select(["id", "tenantId"])
    .where((eb) => eb.or([eb("status", "is", null), eb("status", "not in", ["canceled", "incomplete_expired"])]))
    .where((eb) => eb.or([eb("statusAsOf", "is", null), eb("statusAsOf", "<", startedAt)]))
    .orderBy("id")
    .execute();
}

/** What a comparison shows: of the subscription, and of the tenant that it is of. */
export type State = {
  tenantId: TenantId;
  status: string | null;
  priceId: string | null;
  cancelAtPeriodEnd: boolean;
  currentPeriodEnd: Date | null;
  nextPaymentAttempt: Date | null;
  lastPaidAt: Date | null;
  tenantStatus: string;
  tier: string;
};

export async function readStates(db: Db, subscriptionIds: readonly string[]): Promise<Map<string, State>> {
  const rows = await db
    .selectFrom("stripeSubscriptions as subscription")
    .innerJoin("tenants", "tenants.id", "subscription.tenantId")
    .select([
      "subscription.id",
      "subscription.tenantId",
      "subscription.status",
      "subscription.priceId",
      "subscription.cancelAtPeriodEnd",
      "subscription.currentPeriodEnd",
      "subscription.nextPaymentAttempt",
      "subscription.lastPaidAt",
      "tenants.status as tenantStatus",
      "tenants.tier",
    ])
    .where(sql<boolean>`subscription.id = ANY (${subscriptionIds})`)
    .execute();
  return new Map(rows.map(({ id, ...state }) => [id, state]));
}

/** By what Stripe knows each of the tenants. */
export async function listStripeIds(
  db: Db,
  tenantIds: readonly TenantId[],
): Promise<{ tenantId: TenantId; subscriptions: string[]; customers: string[] }[]> {
  const { rows } = await sql<{ tenantId: TenantId; subscriptions: string[]; customers: string[] }>`
    SELECT tenants.id AS tenant_id,
      array(SELECT id FROM stripe_subscriptions WHERE tenant_id = tenants.id ORDER BY id) AS subscriptions,
      array(
        SELECT stripe_customer_id FROM tenant_billing WHERE tenant_id = tenants.id AND stripe_customer_id IS NOT NULL
        UNION SELECT customer_id FROM stripe_subscriptions WHERE tenant_id = tenants.id AND customer_id IS NOT NULL
      ) AS customers
    FROM tenants WHERE id = ANY (${tenantIds}::uuid[]) ORDER BY slug`.execute(db);
  return rows;
}
