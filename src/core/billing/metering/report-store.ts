import { sql } from "kysely";
import type { Db } from "../../platform/db.ts";
import type { TenantId } from "../../platform/ids.ts";
import type { Tenant } from "../../tenants/tenants.ts";

/** What one tenant paid in a month, in one currency. */
export type RevenueRow = {
  tenantId: TenantId;
  tier: Tenant["tier"];
  /** In lower case, as Stripe writes it; "unknown" where no event said. */
  currency: string;
  payments: number;
  grossCents: number;
  /** Refunded or lost in a dispute so far, of what was charged in the month. */
  takenBackCents: number;
};

/** What one tenant's calls of one model came to in a month. */
export type CostRow = {
  tenantId: TenantId;
  tier: Tenant["tier"];
  model: string;
  calls: number;
  assumedCalls: number;
  /** Those that count against budgets. */
  tokens: number;
  costMicroUsd: number;
};

/**
 * Tenants' months of revenue. What was taken back stands in the month and the currency of the payment that it was of: the one
 * that names the charge, else, for newer API versions name none, the tenant's nearest to it.
 */
const REVENUE = sql`
  SELECT tenant_id, tier, utc_month, currency, sum(payments)::bigint AS payments, sum(gross_cents)::bigint AS gross_cents,
    sum(taken_back_cents)::bigint AS taken_back_cents
  FROM (
    SELECT tenant_id, to_char(paid_at AT TIME ZONE 'UTC', 'YYYY-MM') AS utc_month, coalesce(currency, 'unknown') AS currency,
      1 AS payments, coalesce(amount_cents, 0) AS gross_cents, 0 AS taken_back_cents
    FROM stripe_payments
    UNION ALL
    SELECT charge.tenant_id,
      to_char(coalesce(payment.paid_at, charged_at, refunded_at, dispute_lost_at) AT TIME ZONE 'UTC', 'YYYY-MM'),
      coalesce(payment.currency, 'unknown'), 0, 0,
      CASE WHEN dispute_lost_at IS NOT NULL THEN coalesce(charge.amount_cents, 0) ELSE amount_refunded_cents END
    FROM stripe_charges AS charge
    LEFT JOIN LATERAL (
      SELECT paid_at, currency FROM stripe_payments AS one WHERE one.tenant_id = charge.tenant_id
      ORDER BY one.invoice_id = charge.invoice_id OR one.charge_id = charge.id
          OR one.payment_intent_id = charge.payment_intent_id DESC NULLS LAST,
        one.amount_cents = charge.amount_cents DESC NULLS LAST,
        abs(extract(epoch FROM one.paid_at - coalesce(charge.charged_at, one.paid_at)))
      LIMIT 1
    ) AS payment ON true
    WHERE amount_refunded_cents > 0 OR dispute_lost_at IS NOT NULL
  ) AS moved
  JOIN tenants ON tenants.id = moved.tenant_id
  WHERE utc_month IS NOT NULL GROUP BY tenant_id, tier, utc_month, currency`;

/** @param month YYYY-MM, of UTC. */
export async function readRevenue(db: Db, month: string): Promise<RevenueRow[]> {
  const { rows } = await sql<RevenueRow>`
    SELECT tenant_id, tier, currency, payments, gross_cents, taken_back_cents FROM (${REVENUE}) AS kept
      WHERE utc_month = ${month}
    UNION ALL
    SELECT tenant_id, tier, currency, payments, gross_cents, taken_back_cents FROM purged_revenue
      WHERE utc_month = ${month}`.execute(db);
  return rows;
}

/** Keeps the sums of what a tenant that is about to be purged has paid. */
export async function keepRevenueOf(db: Db, tenantId: TenantId): Promise<void> {
  await sql`
    INSERT INTO purged_revenue (tenant_id, tier, utc_month, currency, payments, gross_cents, taken_back_cents)
    SELECT * FROM (${REVENUE}) AS revenue WHERE tenant_id = ${tenantId} ON CONFLICT DO NOTHING`.execute(db);
}

/** @param month YYYY-MM, of UTC. */
export async function readCosts(db: Db, month: string): Promise<CostRow[]> {
  const start = sql`${`${month}-01`}::timestamp`;
  const { rows } = await sql<CostRow>`
    SELECT tenant_id, tier, model, count(*) AS calls, count(*) FILTER (WHERE is_assumed) AS assumed_calls,
      sum(input_tokens + output_tokens + cache_write_tokens)::bigint AS tokens, sum(cost_micro_usd)::bigint AS cost_micro_usd
    FROM usage_records
    WHERE at >= ${start} AT TIME ZONE 'UTC' AND at < (${start} + interval '1 month') AT TIME ZONE 'UTC'
    GROUP BY tenant_id, tier, model`.execute(db);
  return rows;
}
