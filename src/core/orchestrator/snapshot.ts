import type { RuntimeSnapshots, StateSnapshot } from "../adapters/runtime/runtime-snapshots.ts";
import { writeAudit } from "../platform/audit.ts";
import { ConflictError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Tenant, TenantsContext } from "../tenants/tenants.ts";
import { requireExportable, requireImportable } from "./backup.ts";
import { type Wait, whileAsleep } from "./while-asleep.ts";

export type SnapshotContext = TenantsContext & { snapshots: RuntimeSnapshots };
type Waiting = Omit<Wait, "check">;

/** Takes a snapshot in which the tenant's state is consistent: its runtime sleeps meanwhile, and is woken afterwards if it was awake. */
export async function snapshotTenant(
  ctx: SnapshotContext,
  tenantId: TenantId,
  waiting: Waiting,
): Promise<{ snapshot: StateSnapshot; wasAwake: boolean }> {
  const { reason, signal } = waiting;
  const wait = { ...waiting, check: requireExportable };
  const { result: snapshot, wasAwake } = await whileAsleep(ctx, tenantId, wait, () =>
    ctx.snapshots.take(tenantId, { signal }),
  );
  await audit(ctx, tenantId, { action: "tenant.exported", reason, snapshot });
  return { snapshot, wasAwake };
}

/** The snapshot that a tenant's state can be taken from. @throws NotFoundError when there is none of `time`. */
export async function findRestorable(
  { snapshots }: SnapshotContext,
  tenant: Tenant,
  time: Date,
): Promise<StateSnapshot> {
  requireImportable(tenant);
  if (time.getTime() >= tenant.createdAt.getTime()) return snapshots.get(tenant.id, time);
  throw new ConflictError(
    "snapshot_too_old",
    `The tenant ${tenant.slug} was created on ${tenant.createdAt.toISOString()}: a snapshot of ${time.toISOString()} has nothing of it.`,
  );
}

/** Replaces what the tenant's runtime keeps by what a snapshot has of it. The runtime sleeps meanwhile, and is woken afterwards if it was awake. */
export async function restoreTenantState(
  ctx: SnapshotContext,
  tenantId: TenantId,
  { snapshot, ...waiting }: Waiting & { snapshot: StateSnapshot },
): Promise<{ wasAwake: boolean }> {
  const { reason, signal } = waiting;
  const wait = { ...waiting, check: requireImportable };
  const { wasAwake } = await whileAsleep(ctx, tenantId, wait, async () => {
    await ctx.snapshots.restore(tenantId, snapshot, { signal });
    await audit(ctx, tenantId, { action: "tenant.imported", reason, snapshot });
  });
  return { wasAwake };
}

async function audit(
  { db, clock, actor }: SnapshotContext,
  tenantId: TenantId,
  { action, reason, snapshot }: { action: string; reason: string; snapshot: StateSnapshot },
): Promise<void> {
  const { time, stampId, storageAccount, share } = snapshot;
  const detail = { snapshot: time, stampId, storageAccount, share };
  await writeAudit(db, { at: clock.now(), actor, tenantId, action, reason, detail });
}
