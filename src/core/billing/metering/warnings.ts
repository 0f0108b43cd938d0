import { sql } from "kysely";
import type { Db } from "../../platform/db.ts";
import type { TenantId } from "../../platform/ids.ts";
import type { Measure } from "./budget.ts";

/** How far a budget is used, for whoever is to be told; `tenantId` null: the cap of all tenants together. */
export type BudgetWarning = {
  /** Of this one, and of those below it that it makes needless. */
  ids: number[];
  tenantId: TenantId | null;
  month: string;
  measure: Measure;
  percent: number;
};

/** Takes what nobody was told yet, for the caller alone: of each budget the highest. */
export async function claimWarnings(db: Db, now: Date, limit: number): Promise<BudgetWarning[]> {
  const { rows } = await sql<BudgetWarning>`
    WITH claimed AS (
      UPDATE budget_warnings SET told_at = ${now}
      WHERE id IN (SELECT id FROM budget_warnings WHERE told_at IS NULL ORDER BY id LIMIT ${limit} FOR UPDATE SKIP LOCKED)
      RETURNING *
    )
    SELECT array_agg(id) AS ids, tenant_id, month, measure, max(percent) AS percent
    FROM claimed GROUP BY tenant_id, month, measure ORDER BY min(id)`.execute(db);
  return rows.map(({ ids, ...warning }) => ({ ...warning, ids: ids.map(Number) }));
}

/** Gives warnings back that could not be told. */
export async function releaseWarnings(db: Db, ids: readonly number[]): Promise<void> {
  await db.updateTable("budgetWarnings").set({ toldAt: null }).where("id", "in", ids).execute();
}
