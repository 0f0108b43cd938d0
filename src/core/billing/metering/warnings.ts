import { sql } from "kysely";
import { addMs } from "../../platform/clock.ts";
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

/** Longer than telling all that is claimed at once takes. */
const CLAIM_MS = 5 * 60_000;

/** Takes what nobody was told yet, for the caller alone for a while: of each budget the highest. */
export async function claimWarnings(db: Db, now: Date, limit: number): Promise<BudgetWarning[]> {
  const { rows } = await sql<BudgetWarning>`
    WITH claimed AS (
      UPDATE budget_warnings SET claimed_until = ${addMs(now, CLAIM_MS)}
      WHERE id IN (
        SELECT id FROM budget_warnings
        WHERE told_at IS NULL AND (claimed_until IS NULL OR claimed_until <= ${now})
        ORDER BY id LIMIT ${limit} FOR UPDATE SKIP LOCKED
      )
      RETURNING *
    )
    SELECT array_agg(id) AS ids, tenant_id, month, measure, max(percent) AS percent
    FROM claimed GROUP BY tenant_id, month, measure ORDER BY min(id)`.execute(db);
  return rows.map(({ ids, ...warning }) => ({ ...warning, ids: ids.map(Number) }));
}

export async function markWarningsTold(db: Db, ids: readonly number[], now: Date): Promise<void> {
  await db.updateTable("budgetWarnings").set({ toldAt: now }).where("id", "in", ids).execute();
}

/** Gives warnings back that were not told. */
export async function releaseWarnings(db: Db, ids: readonly number[]): Promise<void> {
  if (ids.length > 0)
    await db.updateTable("budgetWarnings").set({ claimedUntil: null }).where("id", "in", ids).execute();
}
