import { sql } from "kysely";
import { type Actor, writeAudit } from "../../platform/audit.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Db } from "../../platform/db.ts";
import type { TenantId } from "../../platform/ids.ts";
import type { Amount, Allowance } from "./budget.ts";
import { utcMonthOf } from "./meter-store.ts";

type LimitsContext = { db: Db; clock: Clock; actor: Actor };

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

/** What all tenants may spend together, and have. */
export type FleetBudget = {
  /** Of a tenant without a budget of its own. */
  defaultTokens: number;
  /** NULL: no cap. */
  allowedMicroUsd: number | null;
  utcMonth: string;
  calls: number;
  tokens: number;
  spentMicroUsd: number;
  reservedMicroUsd: number;
  stoppedAt: Date | null;
  stoppedReason: string | null;
};

export async function readFleetBudget(db: Db, now: Date): Promise<FleetBudget> {
  const utcMonth = utcMonthOf(now);
  const limits = await db.selectFrom("spendingLimits").selectAll().executeTakeFirstOrThrow();
  const spent = await db.selectFrom("fleetUsageMonths").selectAll().where("utcMonth", "=", utcMonth).executeTakeFirst();
  const reserved = await db
    .selectFrom("usageReservations")
    .select(sql<number>`coalesce(sum(cost_micro_usd), 0)::bigint`.as("microUsd"))
    .where("utcMonth", "=", utcMonth)
    .executeTakeFirstOrThrow();
  return {
    defaultTokens: limits.tokensPerMonth,
    allowedMicroUsd: limits.microUsdPerMonth,
    utcMonth,
    calls: spent?.calls ?? 0,
    tokens: spent?.tokens ?? 0,
    spentMicroUsd: spent?.costMicroUsd ?? 0,
    reservedMicroUsd: reserved.microUsd,
    stoppedAt: limits.stoppedAt,
    stoppedReason: limits.stoppedReason,
  };
}

/** A tenant's budget in its own month. */
export type TenantBudget = {
  month: string;
  isExempt: boolean;
  /** Whether it is the default. */
  hasOwnTokens: boolean;
  allowed: Allowance;
  calls: number;
  spent: Amount;
  reserved: Amount;
  stop: SpendingStop | null;
};

type BudgetRow = Omit<TenantBudget, "allowed" | "spent" | "reserved"> &
  Record<"tokens" | "microUsd" | "reservedTokens" | "reservedMicroUsd" | "allowedTokens", number> & {
    allowedMicroUsd: number | null;
  };

/** @param month YYYY-MM; undefined: the one that it is where the tenant lives. */
export async function readTenantBudget(
  { db, clock }: Pick<LimitsContext, "db" | "clock">,
  tenantId: TenantId,
  month?: string,
): Promise<TenantBudget> {
  const now = clock.now();
  const current = sql`to_char(${now}::timestamptz AT TIME ZONE tenants.time_zone, 'YYYY-MM')`;
  const { rows } = await sql<BudgetRow>`
    SELECT period.month, budget_exempt AS is_exempt, budget.tokens_per_month IS NOT NULL AS has_own_tokens,
      coalesce(budget.tokens_per_month, limits.tokens_per_month) AS allowed_tokens,
      budget.micro_usd_per_month AS allowed_micro_usd, coalesce(spent.calls, 0) AS calls,
      coalesce(spent.tokens, 0) AS tokens, coalesce(spent.cost_micro_usd, 0) AS micro_usd,
      reserved.tokens AS reserved_tokens, reserved.micro_usd AS reserved_micro_usd,
      ${sql.raw(spendingStopAsSql({ now: "moment.now" }))} AS stop
    FROM tenants CROSS JOIN spending_limits AS limits
    CROSS JOIN (SELECT ${now}::timestamptz AS now) AS moment
    CROSS JOIN LATERAL (SELECT coalesce(${month ?? null}::text, ${current}) AS month) AS period
    LEFT JOIN tenant_budgets AS budget ON budget.tenant_id = tenants.id
    LEFT JOIN usage_months AS spent ON spent.tenant_id = tenants.id AND spent.month = period.month
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint AS tokens,
        coalesce(sum(cost_micro_usd), 0)::bigint AS micro_usd
      FROM usage_reservations AS open WHERE open.tenant_id = tenants.id AND open.month = period.month
    ) AS reserved
    WHERE tenants.id = ${tenantId}`.execute(db);
  const [row] = rows;
  if (row === undefined) throw new Error(`no tenant ${tenantId}`);
  const { allowedTokens, allowedMicroUsd, tokens, microUsd, reservedTokens, reservedMicroUsd, ...rest } = row;
  return {
    ...rest,
    allowed: rest.isExempt ? { tokens: null, microUsd: null } : { tokens: allowedTokens, microUsd: allowedMicroUsd },
    spent: { tokens, microUsd },
    reserved: { tokens: reservedTokens, microUsd: reservedMicroUsd },
  };
}

/** NULL: the default number of tokens, and no limit in money; what is left out stays. */
export type BudgetChange = { tokens?: number | null; microUsd?: number | null };

/** Sets what one tenant may spend a month; a stop ends, until the new budget is used up as well. */
export async function setTenantBudget(ctx: LimitsContext, tenantId: TenantId, change: BudgetChange): Promise<void> {
  const at = ctx.clock.now();
  const columns = {
    ...(change.tokens === undefined ? {} : { tokensPerMonth: change.tokens }),
    ...(change.microUsd === undefined ? {} : { microUsdPerMonth: change.microUsd }),
    updatedAt: at,
  };
  await ctx.db.transaction().execute(async (tx) => {
    await tx
      .insertInto("tenantBudgets")
      .values({ tenantId, ...columns })
      .onConflict((conflict) => conflict.column("tenantId").doUpdateSet(columns))
      .execute();
    await tx.deleteFrom("budgetStops").where("tenantId", "=", tenantId).execute();
    await writeAudit(tx, { at, actor: ctx.actor, action: "budget.set", tenantId, detail: change });
  });
}

/** Sets what tenants without a budget of their own may spend a month, in tokens. */
export async function setDefaultBudget(ctx: LimitsContext, tokens: number): Promise<void> {
  const at = ctx.clock.now();
  await ctx.db.transaction().execute(async (tx) => {
    await tx.updateTable("spendingLimits").set({ tokensPerMonth: tokens }).execute();
    // Whoever has a budget of its own is stopped again by the next call.
    await tx.deleteFrom("budgetStops").where("measure", "=", "tokens").execute();
    await writeAudit(tx, { at, actor: ctx.actor, action: "budget.default-set", detail: { tokens } });
  });
}

/** Sets what all tenants may spend together in a month of UTC; NULL: no cap. */
export async function setFleetCap(ctx: LimitsContext, microUsd: number | null): Promise<void> {
  const at = ctx.clock.now();
  await ctx.db.transaction().execute(async (tx) => {
    await tx.updateTable("spendingLimits").set({ microUsdPerMonth: microUsd, cappedUntil: null }).execute();
    await writeAudit(tx, { at, actor: ctx.actor, action: "budget.capped", detail: { microUsd } });
  });
}

/** The kill switch: from the next call on, none is let through; those under way go on. Lifted by `reason` null. */
export async function stopModels(ctx: LimitsContext, reason: string | null): Promise<void> {
  const at = ctx.clock.now();
  await ctx.db.transaction().execute(async (tx) => {
    const stop = { stoppedAt: reason === null ? null : at, stoppedReason: reason };
    await tx.updateTable("spendingLimits").set(stop).execute();
    const action = reason === null ? "models.resumed" : "models.stopped";
    await writeAudit(tx, { at, actor: ctx.actor, action, ...(reason === null ? {} : { reason }) });
  });
}
