import type { Db } from "../../platform/db.ts";
import type { TenantId } from "../../platform/ids.ts";
import type { Tenant } from "../../tenants/tenants.ts";
import { type CostRow, readCosts, readRevenue, type RevenueRow } from "./report-store.ts";

export type Revenue = { payments: number; grossCents: number; takenBackCents: number; netCents: number };
export type Cost = { calls: number; assumedCalls: number; tokens: number; costMicroUsd: number };

/** A month of UTC over all tenants. */
export type Report = {
  month: string;
  revenue: (Revenue & { currency: string; tiers: (Revenue & { tier: Tenant["tier"] })[] })[];
  cost: Cost & { tiers: (Cost & { tier: Tenant["tier"] })[]; models: (Cost & { model: string })[] };
  /** Net revenue less cost, in micro-USD: of what was paid in dollars. Null when anything was paid in another currency. */
  marginMicroUsd: number | null;
  /** The dearest first. */
  tenants: TenantLine[];
};

/** What one tenant paid and cost. */
export type TenantLine = Cost & {
  tenantId: TenantId;
  tier: Tenant["tier"];
  revenue: (Revenue & { currency: string })[];
};

const MICRO_USD_PER_CENT = 10_000;
const NO_COST: Cost = { calls: 0, assumedCalls: 0, tokens: 0, costMicroUsd: 0 };
const NO_REVENUE: Revenue = { payments: 0, grossCents: 0, takenBackCents: 0, netCents: 0 };

export async function readReport(db: Db, month: string): Promise<Report> {
  return buildReport(month, await readRevenue(db, month), await readCosts(db, month));
}

/** Every sum of the report is one over the same rows. */
export function buildReport(month: string, paid: readonly RevenueRow[], spent: readonly CostRow[]): Report {
  const revenue = groupBy(paid, ({ currency }) => currency).map(([currency, rows]) => ({
    currency,
    ...sumRevenue(rows),
    tiers: groupBy(rows, ({ tier }) => tier).map(([tier, ofTier]) => ({ tier, ...sumRevenue(ofTier) })),
  }));
  const cost = sumCost(spent);
  const inDollars = revenue.every(({ currency }) => currency === "usd");
  const netCents = revenue.reduce((sum, one) => sum + one.netCents, 0);
  return {
    month,
    revenue,
    cost: {
      ...cost,
      tiers: groupBy(spent, ({ tier }) => tier).map(([tier, rows]) => ({ tier, ...sumCost(rows) })),
      models: groupBy(spent, ({ model }) => model)
        .map(([model, rows]) => ({ model, ...sumCost(rows) }))
        .sort((one, other) => other.costMicroUsd - one.costMicroUsd),
    },
    marginMicroUsd: inDollars ? netCents * MICRO_USD_PER_CENT - cost.costMicroUsd : null,
    tenants: listTenants(paid, spent),
  };
}

function listTenants(paid: readonly RevenueRow[], spent: readonly CostRow[]): TenantLine[] {
  const payments = new Map(groupBy(paid, ({ tenantId }) => tenantId));
  const costs = new Map(groupBy(spent, ({ tenantId }) => tenantId));
  return [...new Set([...costs.keys(), ...payments.keys()])]
    .map((tenantId) => {
      const rows = payments.get(tenantId) ?? [];
      const calls = costs.get(tenantId) ?? [];
      // The tier that most was spent in: one may have changed within the month.
      const [first] = calls.toSorted((one, other) => other.costMicroUsd - one.costMicroUsd);
      return {
        tenantId,
        tier: first?.tier ?? rows[0]?.tier ?? "basic",
        ...sumCost(calls),
        revenue: groupBy(rows, ({ currency }) => currency).map(([currency, same]) => ({
          currency,
          ...sumRevenue(same),
        })),
      };
    })
    .sort((one, other) => other.costMicroUsd - one.costMicroUsd || (one.tenantId < other.tenantId ? -1 : 1));
}

function sumRevenue(rows: readonly Omit<Revenue, "netCents">[]): Revenue {
  return rows.reduce<Revenue>(
    (sum, row) => ({
      payments: sum.payments + row.payments,
      grossCents: sum.grossCents + row.grossCents,
      takenBackCents: sum.takenBackCents + row.takenBackCents,
      netCents: sum.netCents + row.grossCents - row.takenBackCents,
    }),
    NO_REVENUE,
  );
}

function sumCost(rows: readonly Cost[]): Cost {
  return rows.reduce<Cost>(
    (sum, row) => ({
      calls: sum.calls + row.calls,
      assumedCalls: sum.assumedCalls + row.assumedCalls,
      tokens: sum.tokens + row.tokens,
      costMicroUsd: sum.costMicroUsd + row.costMicroUsd,
    }),
    NO_COST,
  );
}

/** In the order of the keys. */
function groupBy<Row, Key extends string>(rows: readonly Row[], keyOf: (row: Row) => Key): [Key, Row[]][] {
  return [...Map.groupBy(rows, keyOf)].sort(([one], [other]) => (one < other ? -1 : 1));
}
