import { findEntitlement } from "../billing/billing.ts";
import { ConflictError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { changeStatus, lockTenant, type Tenant, type TenantsContext } from "../tenants/tenants.ts";

/**
 * Begins provisioning at an operator's word; a job does the rest. Asking again while it is under way changes nothing.
 * @throws ConflictError when the tenant is not entitled, naming the remedy, or not in a state to be provisioned.
 */
export async function provisionTenant(ctx: TenantsContext, tenantId: TenantId, reason: string): Promise<Tenant> {
  return ctx.db.transaction().execute(async (tx) => {
    const tenant = await lockTenant(tx, tenantId);
    if (tenant.status === "provisioning") return tenant;
    await requireEntitlement({ ...ctx, db: tx }, tenant);
    return changeStatus({ ...ctx, db: tx }, tenantId, { to: "provisioning", reason });
  });
}

/** Suspends at an operator's word; billing never lifts it. @throws ConflictError unless the tenant is active. */
export async function suspendTenant(ctx: TenantsContext, tenantId: TenantId, reason: string): Promise<Tenant> {
  return ctx.db
    .transaction()
    .execute((tx) => changeStatus({ ...ctx, db: tx }, tenantId, { to: "suspended", suspendedBy: "operator", reason }));
}

/** Lifts a suspension. @throws ConflictError when the tenant is not suspended or not entitled, naming the remedy. */
export async function resumeTenant(ctx: TenantsContext, tenantId: TenantId, reason: string): Promise<Tenant> {
  return ctx.db.transaction().execute(async (tx) => {
    const tenant = await lockTenant(tx, tenantId);
    if (tenant.status === "suspended") await requireEntitlement({ ...ctx, db: tx }, tenant);
    else
      throw new ConflictError(
        "not_suspended",
        `Tenant ${tenant.slug} is ${tenant.status}, not suspended; there is nothing to resume.`,
      );
    return changeStatus({ ...ctx, db: tx }, tenantId, { to: "active", reason });
  });
}

/** Begins removal of runtime and keys; a job does the rest. Asking again while it is under way changes nothing. */
export async function deprovisionTenant(ctx: TenantsContext, tenantId: TenantId, reason: string): Promise<Tenant> {
  return ctx.db.transaction().execute(async (tx) => {
    const tenant = await lockTenant(tx, tenantId);
    if (tenant.status === "deprovisioning") return tenant;
    return changeStatus({ ...ctx, db: tx }, tenantId, { to: "deprovisioning", reason });
  });
}

/**
 * Brings a deleted tenant back with its kept data: provisioning again, or with `unpaid` as it was before anybody paid.
 * @throws ConflictError unless it is deleted and its keeping time still runs, or when it is not entitled, naming the remedy.
 */
export async function restoreTenant(
  ctx: TenantsContext,
  tenantId: TenantId,
  { reason, unpaid }: { reason: string; unpaid: boolean },
): Promise<Tenant> {
  return ctx.db.transaction().execute(async (tx) => {
    const inside = { ...ctx, db: tx };
    const tenant = await lockTenant(tx, tenantId);
    if (tenant.status !== "deleted") {
      throw new ConflictError(
        "not_deleted",
        `Tenant ${tenant.slug} is ${tenant.status}, not deleted; there is nothing to restore.`,
      );
    }
    if (tenant.purgeAfter === null || tenant.purgeAfter <= ctx.clock.now()) {
      throw new ConflictError(
        "keeping_time_over",
        `The data of ${tenant.slug} is being removed for good: its keeping time is over. Create a new tenant when that is done.`,
      );
    }
    if (unpaid) return changeStatus(inside, tenantId, { to: "pending", reason });
    await requireEntitlement(inside, tenant);
    return changeStatus(inside, tenantId, { to: "provisioning", reason });
  });
}

async function requireEntitlement(ctx: TenantsContext, tenant: Tenant): Promise<void> {
  const { entitled, reason } = await findEntitlement(ctx.db, tenant.id, ctx.clock.now());
  if (entitled) return;
  const remedy = `openclaw tenant update ${tenant.slug} --billing-exempt, or --trial-days <days>`;
  throw new ConflictError(
    "not_entitled",
    `Tenant ${tenant.slug} is not entitled to run: ${reason}. Let it run with: ${remedy}`,
  );
}
