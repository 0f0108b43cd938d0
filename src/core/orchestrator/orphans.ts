import type { ObservedRuntime, RuntimeDriver } from "../adapters/runtime/runtime-driver.ts";
import type { Vault } from "../adapters/vault/vault.ts";
import { writeAudit } from "../platform/audit.ts";
import type { Db } from "../platform/db.ts";
import { ConflictError, UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { findPurgedAt, findTenantById, listTenants, type Tenant, type TenantsContext } from "../tenants/tenants.ts";
import { removeTenantKeys } from "./keys.ts";

/** What runs without a tenant: its tenant is deleted, or there is none with that id. */
export type Orphan = Pick<ObservedRuntime, "tenantId" | "state" | "image">;

/** Those of the runtimes that are there; of `tenants`, read after them, only those deleted before `begunAt` have none by right. */
export function findOrphans(
  runtimes: readonly ObservedRuntime[],
  tenants: readonly Pick<Tenant, "id" | "status" | "statusChangedAt">[],
  begunAt: Date,
): Orphan[] {
  const isOwner = ({ status, statusChangedAt }: (typeof tenants)[number]) =>
    status !== "deleted" || statusChangedAt > begunAt;
  const owners = new Set(tenants.filter(isOwner).map(({ id }) => id));
  return runtimes
    .filter(({ tenantId, state }) => state !== "absent" && !owners.has(tenantId))
    .map(({ tenantId, state, image }) => ({ tenantId, state, image }));
}

/** From one listing of everything that is ours. */
export async function listOrphans(ctx: Pick<ReapContext, "db" | "clock" | "runtimes">): Promise<Orphan[]> {
  const begunAt = ctx.clock.now();
  const runtimes = await ctx.runtimes.list();
  return findOrphans(runtimes, await listTenants(ctx.db), begunAt);
}

/**
 * Whose runtime was left behind. `deleted`: its tenant's data is kept until its time is over. `purged`: nothing of it was to be kept.
 * `unknown`: no tenant with that id is on record, as after an older database was restored.
 */
export type OrphanOwner = { kind: "deleted"; slug: string } | { kind: "purged" } | { kind: "unknown" };

/** Undefined when the tenant is there and not deleted: then its runtime is no orphan. */
export async function findOrphanOwner(db: Db, tenantId: TenantId): Promise<OrphanOwner | undefined> {
  const tenant = await findTenantById(db, tenantId);
  if (tenant !== undefined) return tenant.status === "deleted" ? { kind: "deleted", slug: tenant.slug } : undefined;
  return { kind: (await findPurgedAt(db, tenantId)) === undefined ? "unknown" : "purged" };
}

export type ReapContext = TenantsContext & { runtimes: RuntimeDriver; vault: Vault };

/**
 * Removes a runtime without a tenant and its keys, read back. Its state is kept, unless its tenant was purged, or `erase` is told of
 * one that is unknown.
 * @throws ConflictError when it is no orphan by now.
 */
export async function reapOrphan(
  ctx: ReapContext,
  tenantId: TenantId,
  { erase, reason }: { erase: boolean; reason: string },
): Promise<"removed" | "erased"> {
  const owner = await findOrphanOwner(ctx.db, tenantId);
  if (owner === undefined) throw new ConflictError("not_orphaned", `The tenant ${tenantId} is there again.`);
  const isErased = owner.kind === "purged" || (owner.kind === "unknown" && erase);
  await (isErased ? ctx.runtimes.erase(tenantId) : ctx.runtimes.remove(tenantId));
  const left = await ctx.runtimes.inspect(tenantId);
  if (left.state !== "absent") {
    throw new UpstreamError("runtime_still_there", `The runtime is still ${left.state} after removing it.`, {
      service: "runtime",
      retryable: true,
    });
  }
  await removeTenantKeys(ctx, tenantId);
  const result = isErased ? "erased" : "removed";
  const entry = { at: ctx.clock.now(), actor: ctx.actor, action: "fleet.reaped", tenantId, reason };
  await writeAudit(ctx.db, { ...entry, detail: { owner: owner.kind, result } });
  return result;
}
