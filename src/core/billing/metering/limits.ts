/** Why no model call would be let through: the tenant's own budget, or what holds for all. */
export type SpendingStop = "usedUp" | "modelsStopped";

/** The stop in force for the row of `tenants` in scope, as a SQL expression; `now` is one, too. NULL: none. */
export function spendingStopAsSql({ now }: { now: string }): string {
  return `CASE
      WHEN (SELECT stopped_at IS NOT NULL OR coalesce(capped_until > ${now}, false) FROM spending_limits) THEN 'modelsStopped'
      WHEN NOT tenants.budget_exempt
        AND EXISTS (SELECT FROM budget_stops WHERE tenant_id = tenants.id AND until > ${now}) THEN 'usedUp'
    END`;
}
