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

/** A tenant's months of revenue; refunds stand with the currency of its payments. */
const REVENUE = sql`
  SELECT paid.tenant_id, tenants.tier, paid.utc_month, paid.currency, paid.payments, paid.gross_cents,
    CASE WHEN paid.nth = 1 THEN coalesce(taken.cents, 0) ELSE 0 END::bigint AS taken_back_cents
  FROM (
    SELECT tenant_id, to_char(paid_at AT TIME ZONE 'UTC', 'YYYY-MM') AS utc_month, coalesce(currency, 'unknown') AS currency,
      count(*) AS payments, coalesce(sum(amount_cents), 0)::bigint AS gross_cents,
      row_number() OVER (PARTITION BY tenant_id, to_char(paid_at AT TIME ZONE 'UTC', 'YYYY-MM') ORDER BY count(*) DESC) AS nth
    FROM stripe_payments GROUP BY 1, 2, 3
  ) AS paid
  JOIN tenants ON tenants.id = paid.tenant_id
  LEFT JOIN (
    SELECT tenant_id, to_char(charged_at AT TIME ZONE 'UTC', 'YYYY-MM') AS utc_month,
      sum(CASE WHEN dispute_lost_at IS NOT NULL THEN coalesce(amount_cents, 0) ELSE amount_refunded_cents END) AS cents
    FROM stripe_charges GROUP BY 1, 2
  ) AS taken USING (tenant_id, utc_month)`;

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
