import type { Actor } from "../platform/audit.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { assertNever } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { changeStatus, listTenants, lockTenant, setProvisionWhenDeleted, type Tenant } from "../tenants/tenants.ts";
import { findBilling, findBillings } from "./account.ts";
import { type Occasion, planStatusEffect, type StatusEffect } from "./effects.ts";
import { type Billing, type Entitlement, judgeEntitlement } from "./entitlement.ts";

export type BillingContext = { db: Db; clock: Clock; actor: Actor };

/** What a tenant and its payments come to at `now`. */
export function judgeTenant(
  { billingExempt, trialEndsAt }: Tenant,
  billing: Billing | undefined,
  now: Date,
): Entitlement {
  return judgeEntitlement({ billingExempt, trialEndsAt, billing }, now);
}

/** Carries an effect out, in `ctx.db`'s transaction. @returns the tenant as it is then. */
export async function applyEffect(ctx: BillingContext, tenantId: TenantId, effect: StatusEffect): Promise<Tenant> {
  switch (effect.kind) {
    case "change":
      return changeStatus(ctx, tenantId, effect.change);
    case "provision-when-deleted":
      return setProvisionWhenDeleted(ctx.db, tenantId, effect.value);
    default:
      return assertNever(effect);
  }
}

/**
 * Judges a tenant anew and has its status follow, in a transaction of its own; repeating it changes nothing. Pass `began`
 * after giving a trial, so that it also starts what doesn't run yet.
 * @returns whether anything changed.
 */
export async function applyEntitlement(
  ctx: BillingContext,
  tenantId: TenantId,
  occasion: Occasion = "review",
): Promise<boolean> {
  return ctx.db.transaction().execute(async (tx) => {
    const tenant = await lockTenant(tx, tenantId);
    const entitlement = judgeTenant(tenant, await findBilling(tx, tenantId), ctx.clock.now());
    const effect = planStatusEffect(tenant, entitlement, occasion);
    if (effect === undefined) return false;
    await applyEffect({ ...ctx, db: tx }, tenantId, effect);
    return true;
  });
}

export type SweepResult = { judged: number; changed: number; failed: number };

/**
 * Judges every tenant that runs or that billing has suspended: entitlement also ends by the passing of time, which no
 * event announces. No tenant is left out by a filter on why it might run (F55).
 */
export async function sweepEntitlement(ctx: BillingContext & { log: Log }, signal: AbortSignal): Promise<SweepResult> {
  const tenants = await listTenants(ctx.db, { status: ["active", "suspended"] });
  const billings = await findBillings(
    ctx.db,
    tenants.map((tenant) => tenant.id),
  );
  const now = ctx.clock.now();
  const due = tenants.filter(
    (tenant) => planStatusEffect(tenant, judgeTenant(tenant, billings.get(tenant.id), now), "review") !== undefined,
  );
  const result = { judged: tenants.length, changed: 0, failed: 0 };
  for (const { id } of due) {
    if (signal.aborted) break;
    try {
      if (await applyEntitlement(ctx, id)) result.changed++;
    } catch (error) {
      // One tenant's trouble must not keep the others running for free; the next sweep comes back to it.
      result.failed++;
      ctx.log.error({ error, tenantId: id }, "entitlement could not be applied");
    }
  }
  return result;
}
