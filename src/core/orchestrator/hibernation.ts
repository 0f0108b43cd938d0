import { writeAudit } from "../platform/audit.ts";
import { addMs } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { ConflictError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { enqueueConverge, lockTenant, setHibernated, type Tenant, type TenantsContext } from "../tenants/tenants.ts";
import * as store from "./store.ts";

/** When each of the tenants last did anything: an update, a Bot API call, a model call. Who never did is missing. */
export type ActivityReader = (db: Db, tenantIds: readonly TenantId[]) => Promise<ReadonlyMap<TenantId, Date>>;

/** From the decision to sleep until it is done: longer than a delivery that was under way may take. */
export const QUIET_MS = 20_000;
/** After the last sign of life: what a runtime has taken in, it works on in steps that are not far apart. */
export const REST_MS = 60_000;
const MINUTE_MS = 60_000;

/**
 * Decides that an active tenant's runtime sleeps until the next message. From here on nothing is delivered to it; it is stopped
 * only when nothing was delivered since, so that no update is stranded in a runtime that is stopped. Asking again changes nothing.
 * @throws ConflictError unless the tenant is active.
 */
export async function sleepTenant(ctx: TenantsContext, tenantId: TenantId, reason: string): Promise<Tenant> {
  return ctx.db.transaction().execute(async (tx) => {
    const tenant = await lockTenant(tx, tenantId);
    if (tenant.status !== "active") {
      throw new ConflictError("not_active", `Tenant ${tenant.slug} is ${tenant.status}; only an active one can sleep.`);
    }
    if (tenant.hibernatedAt !== null) return tenant;
    const at = ctx.clock.now();
    await setHibernated(tx, tenantId, at);
    await store.hideRuntime(tx, tenantId);
    await writeAudit(tx, { at, actor: ctx.actor, action: "tenant.sleep", tenantId, reason });
    await enqueueConverge(tx, tenantId, { delayMs: QUIET_MS });
    return { ...tenant, hibernatedAt: at };
  });
}

/** Has the runtime of an active tenant come up, whether it sleeps or not. One that keeps failing is left its backoff. */
export async function wakeTenant({ db }: Pick<TenantsContext, "db">, tenantId: TenantId): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const woken = await store.endHibernation(tx, tenantId);
    await enqueueConverge(tx, tenantId, { keepsTime: !woken, urgency: "wake" });
  });
}

/** Puts every runtime to sleep that has done nothing for `idleMinutes`: those of the tier that sleeps. @returns how many. */
export async function sweepIdle(
  ctx: TenantsContext & { lastActivity: ActivityReader; idleMinutes: number },
): Promise<number> {
  const cutoff = addMs(ctx.clock.now(), -ctx.idleMinutes * MINUTE_MS);
  const candidates = await store.listSettled(ctx.db, cutoff);
  const activity = await ctx.lastActivity(ctx.db, candidates);
  let sleeping = 0;
  for (const tenantId of candidates) {
    const last = activity.get(tenantId);
    if (last !== undefined && last > cutoff) continue;
    try {
      await sleepTenant(ctx, tenantId, `idle for ${ctx.idleMinutes} minutes`);
      sleeping += 1;
    } catch (error) {
      // Suspended or removed meanwhile.
      if (!(error instanceof ConflictError)) throw error;
    }
  }
  return sleeping;
}
