import type pg from "pg";
import type { DaemonId, TenantId } from "../../platform/ids.ts";
import type { Tenant } from "../../tenants/tenants.ts";
import { readBilling } from "../account.ts";
import { judgeEntitlement } from "../entitlement.ts";
import { billingAsJson } from "../store.ts";
import type { Account, Fleet, Measure } from "./budget.ts";
import type { Ceiling, PriceTable } from "./prices.ts";
import { NO_USAGE, type TokenUsage } from "./usage.ts";

/** Every statement is prepared by name: these run twice for each model call. */
type Client = pg.Pool | pg.PoolClient;

export async function keepPriceTable(client: Client, { version, models }: PriceTable, now: Date): Promise<void> {
  await client.query(
    "INSERT INTO price_tables (version, prices, first_used_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    [version, JSON.stringify(Object.fromEntries(models)), now],
  );
}

/** Has whoever else reserves wait until the transaction ends: a limit is kept by one decision at a time. */
export const LOCK_LIMITS = "SELECT FROM spending_limits FOR UPDATE";

const MONTH = "to_char($2::timestamptz AT TIME ZONE tenants.time_zone, 'YYYY-MM')";

const READ_ACCOUNTS = `SELECT tenants.id, tier, status, suspended_by AS "suspendedBy", billing_exempt AS "billingExempt",
    budget_exempt AS "budgetExempt", trial_ends_at AS "trialEndsAt", ${billingAsJson("tenants.id")} AS billing,
    ${MONTH} AS month,
    coalesce(budget.tokens_per_month, limits.tokens_per_month) AS "allowedTokens",
    budget.micro_usd_per_month AS "allowedMicroUsd",
    coalesce(spent.tokens, 0) AS "spentTokens", coalesce(spent.cost_micro_usd, 0) AS "spentMicroUsd",
    reserved.tokens AS "reservedTokens", reserved.micro_usd AS "reservedMicroUsd",
    limits.micro_usd_per_month AS "fleetAllowedMicroUsd", limits.stopped_at IS NOT NULL AS "isStopped",
    limits.stopped_reason AS "stoppedReason",
    coalesce((SELECT cost_micro_usd FROM fleet_usage_months WHERE utc_month = $3), 0) AS "fleetSpentMicroUsd",
    coalesce((SELECT sum(cost_micro_usd) FROM usage_reservations WHERE utc_month = $3), 0)::bigint
      AS "fleetReservedMicroUsd"
  FROM tenants CROSS JOIN spending_limits AS limits
  LEFT JOIN tenant_budgets AS budget ON budget.tenant_id = tenants.id
  LEFT JOIN usage_months AS spent ON spent.tenant_id = tenants.id AND spent.month = ${MONTH}
  CROSS JOIN LATERAL (
    SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint AS tokens,
      coalesce(sum(cost_micro_usd), 0)::bigint AS micro_usd
    FROM usage_reservations AS open WHERE open.tenant_id = tenants.id AND open.month = ${MONTH}
  ) AS reserved
  WHERE tenants.id = ANY ($1::uuid[])`;

type AccountRow = Pick<Tenant, "id" | "tier" | "status" | "billingExempt" | "budgetExempt" | "trialEndsAt"> & {
  billing: Parameters<typeof readBilling>[0];
  month: string;
  stoppedReason: string | null;
  isStopped: boolean;
} & Record<"allowedMicroUsd" | "fleetAllowedMicroUsd", number | null> &
  Record<
    | "allowedTokens"
    | "spentTokens"
    | "spentMicroUsd"
    | "reservedTokens"
    | "reservedMicroUsd"
    | "fleetSpentMicroUsd"
    | "fleetReservedMicroUsd",
    number
  >;

const NOTHING_KNOWN: Fleet = {
  allowedMicroUsd: 0,
  spentMicroUsd: 0,
  reservedMicroUsd: 0,
  stoppedReason: undefined,
};

/** The tenants' spending and everybody's, as of one moment. `fleet` allows nothing when none of the tenants is known. */
export async function readAccounts(
  client: Client,
  tenantIds: readonly TenantId[],
  now: Date,
): Promise<{ accounts: Map<TenantId, Account>; fleet: Fleet }> {
  const values = [tenantIds, now, utcMonthOf(now)];
  const { rows } = await client.query<AccountRow>({ name: "read-accounts", text: READ_ACCOUNTS, values });
  const [first] = rows;
  return {
    accounts: new Map(rows.map((row) => [row.id, toAccount(row, now)])),
    fleet:
      first === undefined
        ? NOTHING_KNOWN
        : {
            allowedMicroUsd: first.fleetAllowedMicroUsd,
            spentMicroUsd: first.fleetSpentMicroUsd,
            reservedMicroUsd: first.fleetReservedMicroUsd,
            stoppedReason: first.isStopped ? (first.stoppedReason ?? "") : undefined,
          },
  };
}

function toAccount(row: AccountRow, now: Date): Account {
  const { entitled, reason } = judgeEntitlement({ ...row, billing: readBilling(row.billing) }, now);
  const runs = row.status === "active" || row.status === "provisioning";
  return {
    tenantId: row.id,
    tier: row.tier,
    month: row.month,
    barred: !entitled ? reason : runs ? undefined : `the assistant is ${row.status}`,
    allowed: row.budgetExempt
      ? { tokens: null, microUsd: null }
      : { tokens: row.allowedTokens, microUsd: row.allowedMicroUsd },
    spent: { tokens: row.spentTokens, microUsd: row.spentMicroUsd },
    reserved: { tokens: row.reservedTokens, microUsd: row.reservedMicroUsd },
  };
}

/** YYYY-MM. */
export function utcMonthOf(date: Date): string {
  return date.toISOString().slice(0, 7);
}

export type ReservationRow = {
  id: string;
  account: Pick<Account, "tenantId" | "tier" | "month">;
  model: string;
  ceiling: Ceiling;
};

export async function insertReservations(
  client: Client,
  rows: readonly ReservationRow[],
  common: { daemonId: DaemonId; priceVersion: string; reservedAt: Date; expiresAt: Date },
): Promise<void> {
  await client.query({
    name: "insert-reservations",
    text: `INSERT INTO usage_reservations
        (id, tenant_id, tier, month, model, input_tokens, output_tokens, cost_micro_usd, daemon_id, price_version,
         reserved_at, expires_at, utc_month)
      SELECT item.*, $9::uuid, $10::text, $11::timestamptz, $12::timestamptz, $13::text
      FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[])
        AS item`,
    values: [
      rows.map(({ id }) => id),
      rows.map(({ account }) => account.tenantId),
      rows.map(({ account }) => account.tier),
      rows.map(({ account }) => account.month),
      rows.map(({ model }) => model),
      rows.map(({ ceiling }) => ceiling.inputTokens),
      rows.map(({ ceiling }) => ceiling.outputTokens),
      rows.map(({ ceiling }) => ceiling.costMicroUsd),
      common.daemonId,
      common.priceVersion,
      common.reservedAt,
      common.expiresAt,
      utcMonthOf(common.reservedAt),
    ],
  });
}

/** `usage` undefined: the provider took nothing, so the reservation ends without a record. */
export type Settlement = {
  id: string;
  usage: TokenUsage | undefined;
  costMicroUsd: number;
  isAssumed: boolean;
};

/** What a month has come to, and what it may come to. `tenantId` null: all tenants, in UTC. */
export type MonthState = {
  tenantId: TenantId | null;
  month: string;
  tokens: number;
  microUsd: number;
  allowedTokens: number | null;
  allowedMicroUsd: number | null;
};

const SETTLE = `WITH item AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
      $8::boolean[], $9::boolean[]) AS item (id, used_input, used_output, cache_read, cache_write, cache_write_hour, cost,
      is_assumed, is_free)
  ), ended AS (
    DELETE FROM usage_reservations AS open USING item WHERE open.id = item.id
    RETURNING open.id, tenant_id, tier, model, price_version, used_input, used_output, cache_read, cache_write,
      cache_write_hour, cost, is_assumed, month, reserved_at, utc_month, is_free
  ), billed AS (
    SELECT *, used_input + used_output + cache_write AS tokens FROM ended WHERE NOT is_free
  ), recorded AS (
    INSERT INTO usage_records (id, tenant_id, tier, model, price_version, input_tokens, output_tokens, cache_read_tokens,
      cache_write_tokens, cache_write_hour_tokens, cost_micro_usd, is_assumed, month, at)
    SELECT id, tenant_id, tier, model, price_version, used_input, used_output, cache_read, cache_write,
      cache_write_hour, cost, is_assumed, month, reserved_at FROM billed
  ), months AS (
    INSERT INTO usage_months AS so_far (tenant_id, month, calls, tokens, cost_micro_usd)
    SELECT tenant_id, month, count(*), sum(tokens), sum(cost) FROM billed GROUP BY tenant_id, month ORDER BY tenant_id, month
    ON CONFLICT (tenant_id, month) DO UPDATE SET calls = so_far.calls + excluded.calls,
      tokens = so_far.tokens + excluded.tokens, cost_micro_usd = so_far.cost_micro_usd + excluded.cost_micro_usd
    RETURNING tenant_id, month, tokens, cost_micro_usd
  ), fleet AS (
    INSERT INTO fleet_usage_months AS so_far (utc_month, calls, tokens, cost_micro_usd)
    SELECT utc_month, count(*), sum(tokens), sum(cost) FROM billed GROUP BY utc_month ORDER BY utc_month
    ON CONFLICT (utc_month) DO UPDATE SET calls = so_far.calls + excluded.calls,
      tokens = so_far.tokens + excluded.tokens, cost_micro_usd = so_far.cost_micro_usd + excluded.cost_micro_usd
    RETURNING utc_month, tokens, cost_micro_usd
  )
  SELECT tenants.id AS "tenantId", month, months.tokens, cost_micro_usd AS "microUsd",
    CASE WHEN NOT budget_exempt THEN coalesce(budget.tokens_per_month, limits.tokens_per_month) END AS "allowedTokens",
    CASE WHEN NOT budget_exempt THEN budget.micro_usd_per_month END AS "allowedMicroUsd", NULL::uuid[] AS ids
  FROM months JOIN tenants ON tenants.id = months.tenant_id CROSS JOIN spending_limits AS limits
  LEFT JOIN tenant_budgets AS budget ON budget.tenant_id = tenants.id
  UNION ALL
  SELECT NULL, utc_month, tokens, cost_micro_usd, NULL, limits.micro_usd_per_month, NULL
  FROM fleet CROSS JOIN spending_limits AS limits
  UNION ALL
  SELECT NULL, '', 0, 0, NULL, NULL, array(SELECT id FROM ended)`;

/**
 * Ends reservations, each once: as a record that its tenant's month and the fleet's are raised by in the same commit, or
 * without a trace.
 * @returns the ids of those that were still open, and what the months have come to.
 */
export async function settleReservations(
  client: Client,
  items: readonly Settlement[],
): Promise<{ ended: Set<string>; months: MonthState[] }> {
  const usages = items.map(({ usage }) => usage ?? NO_USAGE);
  const { rows } = await client.query<MonthState & { ids: string[] | null }>({
    name: "settle-reservations",
    text: SETTLE,
    values: [
      items.map(({ id }) => id),
      usages.map(({ inputTokens }) => inputTokens),
      usages.map(({ outputTokens }) => outputTokens),
      usages.map(({ cacheReadTokens }) => cacheReadTokens),
      usages.map(({ cacheWriteTokens }) => cacheWriteTokens),
      usages.map(({ cacheWriteHourTokens }) => cacheWriteHourTokens),
      items.map(({ costMicroUsd }) => costMicroUsd),
      items.map(({ isAssumed }) => isAssumed),
      items.map(({ usage }) => usage === undefined),
    ],
  });
  const months = rows.flatMap(({ ids, ...month }) => (ids === null ? [month] : []));
  return { ended: new Set(rows.flatMap(({ ids }) => ids ?? [])), months };
}

/** Reservations whose end nobody will tell: their time is over, or their daemon is dead. At most `limit`. */
export async function findLostReservations(
  client: Client,
  { now, silentMs, graceMs, limit }: { now: Date; silentMs: number; graceMs: number; limit: number },
): Promise<(Ceiling & { id: string })[]> {
  const { rows } = await client.query<Ceiling & { id: string }>(
    `SELECT id, input_tokens AS "inputTokens", output_tokens AS "outputTokens", cost_micro_usd AS "costMicroUsd"
     FROM usage_reservations AS open
     WHERE expires_at <= $1 OR (reserved_at <= $1 - $2 * interval '1 millisecond' AND NOT EXISTS (
       SELECT FROM daemons WHERE daemons.id = open.daemon_id AND seen_at > now() - $3 * interval '1 millisecond'))
     ORDER BY reserved_at LIMIT $4`,
    [now, graceMs, silentMs, limit],
  );
  return rows;
}

export type Warning = { tenantId: TenantId | null; month: string; measure: Measure; percent: number; allowed: number };

/** Notes warnings to be told, each once. */
export async function insertWarnings(client: Client, warnings: readonly Warning[], now: Date): Promise<void> {
  await client.query(
    `INSERT INTO budget_warnings (tenant_id, month, measure, percent, allowed, warned_at)
     SELECT item.*, $6::timestamptz
     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::bigint[])
       AS item (tenant_id, month, measure, percent, allowed)
     LEFT JOIN tenants ON tenants.id = item.tenant_id
     WHERE item.tenant_id IS NULL OR tenants.id IS NOT NULL
     ORDER BY item.tenant_id, item.month, item.measure, item.percent ON CONFLICT DO NOTHING`,
    [
      warnings.map(({ tenantId }) => tenantId),
      warnings.map(({ month }) => month),
      warnings.map(({ measure }) => measure),
      warnings.map(({ percent }) => percent),
      warnings.map(({ allowed }) => allowed),
      now,
    ],
  );
}

/** Notes tenants that have nothing left, until their month ends; a month that is over already stops nobody. */
export async function stopTenants(
  client: Client,
  stops: readonly { tenantId: TenantId; measure: Measure; month: string }[],
  now: Date,
): Promise<void> {
  await client.query(
    `INSERT INTO budget_stops (tenant_id, measure, until)
     SELECT DISTINCT ON (tenants.id) tenants.id, measure,
       (date_trunc('month', $4::timestamptz AT TIME ZONE time_zone) + interval '1 month') AT TIME ZONE time_zone
     FROM unnest($1::uuid[], $2::text[], $3::text[]) AS item (tenant_id, measure, month)
     JOIN tenants ON tenants.id = item.tenant_id
     WHERE to_char($4::timestamptz AT TIME ZONE time_zone, 'YYYY-MM') = month
     ORDER BY tenants.id, measure
     ON CONFLICT (tenant_id) DO UPDATE SET measure = excluded.measure, until = excluded.until`,
    [stops.map(({ tenantId }) => tenantId), stops.map(({ measure }) => measure), stops.map(({ month }) => month), now],
  );
}

/** Notes that the fleet's cap has turned a call away. */
export async function capFleet(client: Client, now: Date): Promise<void> {
  await client.query(
    `UPDATE spending_limits SET capped_until =
       (date_trunc('month', $1::timestamptz AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'`,
    [now],
  );
}
