import { sql } from "kysely";
import type { Db } from "../../platform/db.ts";
import type { TenantId } from "../../platform/ids.ts";
import type { TokenUsage } from "./usage.ts";

/** What the records of one model come to. */
export type ModelUse = TokenUsage & {
  model: string;
  calls: number;
  /** Of them, those whose end is unknown: they count as they were reserved. */
  assumedCalls: number;
  costMicroUsd: number;
};

/** A tenant's month by model, the dearest first. @param month YYYY-MM, the tenant's own. */
export async function readModelUse(db: Db, tenantId: TenantId, month: string): Promise<ModelUse[]> {
  const { rows } = await sql<ModelUse>`
    SELECT model, count(*) AS calls, count(*) FILTER (WHERE is_assumed) AS assumed_calls,
      sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
      sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
      sum(cache_write_hour_tokens)::bigint AS cache_write_hour_tokens, sum(cost_micro_usd)::bigint AS cost_micro_usd
    FROM usage_records WHERE tenant_id = ${tenantId} AND month = ${month}
    GROUP BY model ORDER BY sum(cost_micro_usd) DESC, model`.execute(db);
  return rows;
}

export type UsageMonth = { month: string; calls: number; tokens: number; costMicroUsd: number };

/** A tenant's months so far, the newest first. */
export async function listUsageMonths(db: Db, tenantId: TenantId, limit: number): Promise<UsageMonth[]> {
  return db
    .selectFrom("usageMonths")
    .select(["month", "calls", "tokens", "costMicroUsd"])
    .where("tenantId", "=", tenantId)
    .orderBy("month", "desc")
    .limit(limit)
    .execute();
}

/** Price tables that calls were counted by, the newest first. */
export async function listPriceTables(db: Db) {
  return db.selectFrom("priceTables").select(["version", "firstUsedAt"]).orderBy("firstUsedAt", "desc").execute();
}

/** When each of the tenants last began a model call, or until when one that is under way may last; who never did is missing. */
export async function findLastModelCalls(db: Db, tenantIds: readonly TenantId[]): Promise<Map<TenantId, Date>> {
  const { rows } = await sql<{ tenantId: TenantId; at: Date | null }>`
    SELECT wanted.id AS tenant_id, greatest(
      (SELECT max(at) FROM usage_records WHERE tenant_id = wanted.id),
      (SELECT max(expires_at) FROM usage_reservations WHERE tenant_id = wanted.id)) AS at
    FROM unnest(${tenantIds}::uuid[]) AS wanted (id)`.execute(db);
  return new Map(rows.flatMap(({ tenantId, at }) => (at === null ? [] : [[tenantId, at]])));
}
