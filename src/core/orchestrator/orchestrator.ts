import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
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
export { rotateVaultKey } from "./vault-key.ts";
export { describeTrouble, noteSecretRefused, noteSecretTaken } from "./secret-drift.ts";
export { compareFleet, type CompareContext, type Compared, type Comparison } from "./compare.ts";
export { type Drift, DRIFT_KINDS, type DriftKind, type Plan } from "./plan.ts";
export { type FleetStatus, readFleetStatus } from "./fleet-status.ts";
export { checkHealth, type Health, type TenantHealth } from "./health.ts";
export { findOrphanOwner, listOrphans, type Orphan, type OrphanOwner, reapOrphan } from "./orphans.ts";
export { type Convergence, readConvergence, reconcileTenants } from "./reconcile.ts";
export { type SweepResult, sweepRuntimes } from "./sweep.ts";
export { readSweeps, type SweepState } from "./sweep-store.ts";
export { readFleetSettings } from "./fleet-settings.ts";
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
