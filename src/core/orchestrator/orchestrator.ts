import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import { enqueueConverge, listTenants } from "../tenants/tenants.ts";
import type { OrchestratorContext } from "./converge.ts";
import { computeSpec } from "./spec.ts";
import * as store from "./store.ts";

export { convergeTenant, type OrchestratorContext } from "./converge.ts";
export { listSteps, pruneSteps, type RuntimeStep } from "../adapters/runtime/journal.ts";
export { type ActivityReader, sleepTenant, sweepIdle, wakeTenant } from "./hibernation.ts";
export { type HistoryEntry, listTenantHistory } from "./history.ts";
export { deprovisionTenant, provisionTenant, restoreTenant, resumeTenant, suspendTenant } from "./lifecycle.ts";
export { purgeTenant, requestPurge, sweepPurges } from "./purge.ts";
export {
  advanceRotation,
  findKeys,
  holdsKeys,
  type KeysView,
  planRotation,
  rotateKeys,
  sweepRotations,
} from "./rotate-keys.ts";
export { CREDENTIAL_CACHE_MS, describePhase } from "./rotation.ts";
export { describeTrouble, noteSecretRefused, noteSecretTaken } from "./secret-drift.ts";
export type { FleetSettings } from "./spec.ts";
export {
  type Credential,
  type CredentialKind,
  parseRuntimeRoute,
  runtimeAsJson,
  type RuntimeRoute,
  type RuntimeRow,
} from "./store.ts";

/** What was last observed of a tenant's runtime. */
export async function findRuntime(db: Db, tenantId: TenantId): Promise<store.RuntimeRow | undefined> {
  return store.findRuntime(db, tenantId);
}

/** SHA-256 of what a tenant's runtime may present: one credential, or while its keys are rotated two, the newer first. */
export async function findCredentials(
  db: Db,
  tenantId: TenantId,
  kind: store.CredentialKind,
): Promise<store.Credential[]> {
  return store.findCredentials(db, tenantId, kind);
}

/**
 * Compares one listing of everything that runs with what should, and enqueues a job for each tenant that differs.
 * @returns how many differ.
 */
export async function sweepRuntimes(ctx: OrchestratorContext): Promise<number> {
  const observed = new Map((await ctx.runtimes.list()).map((runtime) => [runtime.tenantId, runtime]));
  let differing = 0;
  for (const tenant of await listTenants(ctx.db)) {
    const runtime = observed.get(tenant.id);
    if (follows(ctx, tenant, runtime)) continue;
    differing += 1;
    // A job that waits out its backoff is not hurried.
    await enqueueConverge(ctx.db, tenant.id, { keepsTime: true });
  }
  return differing;
}

type TenantRow = Awaited<ReturnType<typeof listTenants>>[number];
type Observed = Awaited<ReturnType<OrchestratorContext["runtimes"]["list"]>>[number];

function follows(ctx: OrchestratorContext, tenant: TenantRow, runtime: Observed | undefined): boolean {
  switch (tenant.status) {
    case "pending":
    case "suspended":
      return runtime === undefined || runtime.state === "asleep" || runtime.state === "absent";
    case "active":
      if (tenant.hibernatedAt !== null) return runtime?.state === "asleep";
      return runtime?.state === "running" && runtime.specHash === computeSpec(tenant, ctx.fleet).hash;
    case "provisioning":
    case "deprovisioning":
      return false;
    case "deleted":
      return true;
  }
}
