import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import { enqueueConverge, listTenants } from "../tenants/tenants.ts";
import type { OrchestratorContext } from "./converge.ts";
import { readTargets, type Target } from "./rollout/targets.ts";
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
export { advanceRollout, sweepRollouts } from "./rollout/advance.ts";
export { type CohortSize, DEFAULT_COHORTS, parseCohorts } from "./rollout/cohorts.ts";
export {
  type FleetContext,
  type SettingsInForce,
  noteEnvironment,
  readSettingsInForce,
  setSettings,
} from "./rollout/settings.ts";
export type { RolloutTenantState } from "./rollout/judge.ts";
export { isSettled, readProgress, type RolloutProgress } from "./rollout/progress.ts";
export { describeContent, type Release, type ReleaseChange, type ReleaseContent } from "./rollout/release.ts";
export {
  abortRollout,
  pauseRollout,
  previewRollback,
  previewRollout,
  resumeRollout,
  type RollbackWish,
  type RolloutPreview,
  type RolloutWish,
  startRollback,
  startRollout,
} from "./rollout/rollouts.ts";
export { readModelsInUse } from "./rollout/targets.ts";
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
  const tenants = await listTenants(ctx.db);
  const ids = tenants.map(({ id }) => id);
  const targets = await readTargets(ctx.db, ids, ctx.fleet);
  let differing = 0;
  for (const tenant of tenants) {
    const target = targets.get(tenant.id);
    if (target === undefined || follows(tenant, target, observed.get(tenant.id))) continue;
    differing += 1;
    // A job that waits out its backoff is not hurried.
    await enqueueConverge(ctx.db, tenant.id, { keepsTime: true });
  }
  return differing;
}

type TenantRow = Awaited<ReturnType<typeof listTenants>>[number];
type Observed = Awaited<ReturnType<OrchestratorContext["runtimes"]["list"]>>[number];

function follows(tenant: TenantRow, { settings }: Target, runtime: Observed | undefined): boolean {
  const isCurrent = runtime?.specHash === computeSpec(tenant, settings).hash;
  switch (tenant.status) {
    case "pending":
      return runtime === undefined || runtime.state === "asleep" || runtime.state === "absent";
    case "suspended":
      return runtime === undefined || runtime.state === "absent" || (runtime.state === "asleep" && isCurrent);
    case "active":
      return runtime?.state === (tenant.hibernatedAt === null ? "running" : "asleep") && isCurrent;
    case "provisioning":
    case "deprovisioning":
      return false;
    case "deleted":
      return true;
  }
}
