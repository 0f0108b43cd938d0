import type { RuntimeDriver } from "../adapters/runtime/runtime-driver.ts";
import { ConflictError } from "../platform/errors.ts";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import { enqueueJob } from "../platform/jobs.ts";
import {
  endKeepingTime,
  findTenantById,
  forgetTenant,
  listPurgeable,
  lockTenant,
  type Tenant,
  type TenantsContext,
} from "../tenants/tenants.ts";

export type PurgeContext = TenantsContext & {
  runtimes: RuntimeDriver;
  /** Ends what others outside hold for the tenant, such as grants and tokens; throws while some of it is left. May be repeated. */
  endOutside: (tenantId: TenantId) => Promise<void>;
  /** What other features know of the tenant, to be forgotten with it. */
  forget: (db: Db, tenantId: TenantId) => Promise<void>;
};

/** Has what is left of a deleted tenant removed now, before its keeping time ends. @throws ConflictError unless it is deleted. */
export async function requestPurge(ctx: TenantsContext, tenantId: TenantId, reason: string): Promise<void> {
  await ctx.db.transaction().execute(async (tx) => {
    const { slug, status } = await lockTenant(tx, tenantId);
    if (status !== "deleted") {
      throw new ConflictError(
        "not_deleted",
        `Tenant ${slug} is ${status}; remove its runtime first: openclaw tenant deprovision ${slug}`,
      );
    }
    await endKeepingTime({ ...ctx, db: tx }, tenantId, reason);
    await enqueuePurge(tx, tenantId);
  });
}

/** Has every tenant purged whose keeping time is over. @returns how many. */
export async function sweepPurges(ctx: TenantsContext): Promise<number> {
  const due = await listPurgeable(ctx.db, ctx.clock.now());
  for (const tenantId of due) await enqueuePurge(ctx.db, tenantId);
  return due.length;
}

/** In the tenant's own queue: nothing brings its runtime up meanwhile. */
async function enqueuePurge(db: Db, tenantId: TenantId): Promise<void> {
  await enqueueJob(db, "tenant.purge", { tenantId }, { queue: `tenant:${tenantId}`, key: `purge:${tenantId}` });
}

/** Erases the kept state and what is held outside, reads back that it is gone, then forgets the tenant. One that came back meanwhile is left alone. */
export async function purgeTenant(ctx: PurgeContext, tenantId: TenantId): Promise<void> {
  const before = await findTenantById(ctx.db, tenantId);
  if (before === undefined || !isOver(before, ctx.clock.now())) return;
  await ctx.runtimes.erase(tenantId);
  await ctx.endOutside(tenantId);
  await ctx.db.transaction().execute(async (tx) => {
    const tenant = await lockTenant(tx, tenantId);
    if (!isOver(tenant, ctx.clock.now())) return;
    await ctx.forget(tx, tenantId);
    await forgetTenant({ ...ctx, db: tx }, tenant);
  });
}

function isOver({ status, purgeAfter }: Tenant, now: Date): boolean {
  return status === "deleted" && purgeAfter !== null && purgeAfter <= now;
}
