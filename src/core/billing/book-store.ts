import { type Insertable, sql } from "kysely";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import type { StripeCharges, StripePayments, StripeSubscriptions, TenantBilling } from "../platform/schema.ts";
import * as store from "./store.ts";

/** Tenants that have anything to do with these objects (of whatever kind) or customers. */
export async function findOwners(
  db: Db,
  objectIds: readonly string[],
  customerIds: readonly string[],
): Promise<TenantId[]> {
  const { rows } = await sql<{ tenantId: TenantId }>`
    SELECT tenant_id FROM stripe_subscriptions WHERE id = ANY (${objectIds}) OR customer_id = ANY (${customerIds})
    UNION SELECT tenant_id FROM stripe_charges WHERE id = ANY (${objectIds}) OR payment_intent_id = ANY (${objectIds})
    UNION SELECT tenant_id FROM stripe_payments
      WHERE invoice_id = ANY (${objectIds}) OR charge_id = ANY (${objectIds}) OR payment_intent_id = ANY (${objectIds})
    UNION SELECT tenant_id FROM tenant_billing WHERE stripe_customer_id = ANY (${customerIds})`.execute(db);
  return rows.map(({ tenantId }) => tenantId);
}

/** Everything that is recorded of these tenants' payments, one list after the other: they share a connection. */
export async function readRecords(db: Db, tenantIds: readonly TenantId[]) {
  if (tenantIds.length === 0) return { accounts: [], subscriptions: [], charges: [], payments: [] };
  return {
    accounts: await store.listAccounts(db, tenantIds),
    subscriptions: await store.listSubscriptions(db, tenantIds),
    charges: await db.selectFrom("stripeCharges").selectAll().where("tenantId", "in", tenantIds).execute(),
    payments: await db.selectFrom("stripePayments").selectAll().where("tenantId", "in", tenantIds).execute(),
  };
}

export async function saveAccounts(db: Db, rows: Insertable<TenantBilling>[]): Promise<void> {
  if (rows.length === 0) return;
  await db
    .insertInto("tenantBilling")
    .values(rows)
    .onConflict((conflict) =>
      conflict.column("tenantId").doUpdateSet((eb) => ({
        stripeCustomerId: eb.ref("excluded.stripeCustomerId"),
        blockedChargeId: eb.ref("excluded.blockedChargeId"),
        updatedAt: eb.ref("excluded.updatedAt"),
      })),
    )
    .execute();
}

const SUBSCRIPTION_COLUMNS = [
  "customerId",
  "status",
  "priceId",
  "cancelAtPeriodEnd",
  "currentPeriodEnd",
  "startedAt",
  "statusAsOf",
  "statusEventId",
  "firstPayment",
  "paymentFailedAt",
  "nextPaymentAttempt",
  "lastPaidAt",
  "invoiceAsOf",
  "invoiceEventId",
  "customerDeletedAt",
  "updatedAt",
] as const;

export async function saveSubscriptions(db: Db, rows: Insertable<StripeSubscriptions>[]): Promise<void> {
  if (rows.length === 0) return;
  await db
    .insertInto("stripeSubscriptions")
    .values(rows)
    .onConflict((conflict) =>
      conflict
        .column("id")
        .doUpdateSet((eb) =>
          Object.fromEntries(SUBSCRIPTION_COLUMNS.map((column) => [column, eb.ref(`excluded.${column}`)])),
        ),
    )
    .execute();
}

const CHARGE_COLUMNS = [
  "invoiceId",
  "paymentIntentId",
  "amountCents",
  "amountRefundedCents",
  "chargedAt",
  "refundedAt",
  "disputeStatus",
  "disputeLostAt",
  "unblockedAt",
] as const;

export async function saveCharges(db: Db, rows: Insertable<StripeCharges>[]): Promise<void> {
  if (rows.length === 0) return;
  await db
    .insertInto("stripeCharges")
    .values(rows)
    .onConflict((conflict) =>
      conflict
        .column("id")
        .doUpdateSet((eb) =>
          Object.fromEntries(CHARGE_COLUMNS.map((column) => [column, eb.ref(`excluded.${column}`)])),
        ),
    )
    .execute();
}

const PAYMENT_COLUMNS = [
  "subscriptionId",
  "chargeId",
  "paymentIntentId",
  "amountCents",
  "currency",
  "startsPeriod",
  "paidAt",
] as const;

export async function savePayments(db: Db, rows: Insertable<StripePayments>[]): Promise<void> {
  if (rows.length === 0) return;
  await db
    .insertInto("stripePayments")
    .values(rows)
    .onConflict((conflict) =>
      conflict
        .column("invoiceId")
        .doUpdateSet((eb) =>
          Object.fromEntries(PAYMENT_COLUMNS.map((column) => [column, eb.ref(`excluded.${column}`)])),
        ),
    )
    .execute();
}
