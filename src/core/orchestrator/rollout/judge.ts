import type { Selectable } from "kysely";
import { assertNever } from "../../platform/errors.ts";
import type { ReleaseId, TenantId } from "../../platform/ids.ts";
import type { Rollouts, RolloutTenants } from "../../platform/schema.ts";
import type { TenantStatus } from "../../tenants/tenants.ts";
import type { TargetState } from "./targets.ts";

export type RolloutStatus = Selectable<Rollouts>["status"];
export type RolloutTenantState = Selectable<RolloutTenants>["state"];

/** What a decision about a rollout depends on, beside its tenants. */
export type RolloutRules = {
  status: RolloutStatus;
  takesBack: boolean;
  releaseId: ReleaseId;
  parallel: number;
  maxFailures: number;
  deadlineSeconds: number;
  /** Since when somebody has been there to look after it: before that no deadline runs. */
  attendedSince: Date;
  /** Whether its release is known to fail already. */
  isReleaseFailed: boolean;
};

/** One tenant of a rollout as it is, and as its runtime was last seen. */
export type RolloutTenant = {
  tenantId: TenantId;
  cohort: number;
  state: RolloutTenantState;
  startedAt: Date | null;
  hasFailed: boolean;
  /** Where it goes when it doesn't run; null: there is nothing to go back to. */
  backToReleaseId: ReleaseId | null;
  /** Of the tenant; undefined: there is none any more. */
  status: TenantStatus | undefined;
  target: { releaseId: ReleaseId; state: TargetState; stateAt: Date } | undefined;
  /** Failures of its runtime in a row. */
  attempts: number;
  /** Why its runtime is not up; null: nothing is known. */
  trouble: string | null;
};

type SettledState = Extract<RolloutTenantState, "healthy" | "moved-asleep" | "rolled-back" | "failed" | "skipped">;

export type RolloutStep =
  | { kind: "start"; tenantId: TenantId }
  | { kind: "settle"; tenantId: TenantId; state: SettledState; reason: string | undefined }
  | { kind: "take-back"; tenantId: TenantId; to: ReleaseId; reason: string; isFailure: boolean }
  /** It can't run with the release, and there is nothing else that it could run with. */
  | { kind: "give-up"; tenantId: TenantId; reason: string }
  | { kind: "halt"; reason: string }
  | { kind: "fail-release"; reason: string }
  | { kind: "finish" };

/** Failures in a row after which waiting is in vain. */
const ENOUGH_FAILURES = 3;
const SECOND_MS = 1_000;

/** What one tenant's runtime shows of the rollout; undefined while there is nothing to say yet. */
export function judgeTenant(rules: RolloutRules, tenant: RolloutTenant, now: Date): RolloutStep | undefined {
  switch (tenant.state) {
    case "moving":
      return judgeMove(rules, tenant, now);
    case "moved-asleep":
      return judgeWaking(rules, tenant, now);
    case "rolling-back":
      return judgeReturn(rules, tenant, now);
    case "pending":
    case "healthy":
    case "rolled-back":
    case "failed":
    case "skipped":
      return undefined;
    default:
      return assertNever(tenant.state);
  }
}

function judgeMove(rules: RolloutRules, tenant: RolloutTenant, now: Date): RolloutStep | undefined {
  const { startedAt, target } = tenant;
  if (!mayMove(tenant)) return settle(tenant, "skipped", describeLeaving(tenant));
  if (target?.releaseId !== rules.releaseId) return settle(tenant, "skipped", OVERRULED);
  if (target.state === "good") return settle(tenant, "healthy");
  if (target.state === "asleep") return settle(tenant, "moved-asleep");
  const failure = findFailure(rules, tenant, { since: startedAt, now });
  return failure === undefined ? undefined : fail(tenant, failure);
}

/** Whoever was moved asleep shows only when woken whether it runs. */
function judgeWaking(rules: RolloutRules, tenant: RolloutTenant, now: Date): RolloutStep | undefined {
  const { target } = tenant;
  if (!mayMove(tenant) || target?.releaseId !== rules.releaseId) return undefined;
  if (target.state === "good") return settle(tenant, "healthy");
  if (target.state !== "waking") return undefined;
  const failure = findFailure(rules, tenant, { since: target.stateAt, now });
  return failure === undefined ? undefined : fail(tenant, failure);
}

function judgeReturn(rules: RolloutRules, tenant: RolloutTenant, now: Date): RolloutStep | undefined {
  const { target, backToReleaseId } = tenant;
  if (!mayMove(tenant)) return settle(tenant, "skipped", describeLeaving(tenant));
  if (target === undefined || target.releaseId !== backToReleaseId) return settle(tenant, "skipped", OVERRULED);
  if (target.state === "good" || target.state === "asleep") return settle(tenant, "rolled-back");
  if (!isOverdue(rules, target.stateAt, now)) return undefined;
  const reason = `back on release ${backToReleaseId}, it is ${describeLateness(rules, tenant)}`;
  return settle(tenant, "failed", reason);
}

const OVERRULED = "another release was chosen for it meanwhile";

export function mayMove({ status }: RolloutTenant): boolean {
  return status === "active" || status === "suspended";
}

export function describeLeaving({ status }: RolloutTenant): string {
  return status === undefined ? "there is no such tenant any more" : `the tenant is ${status}`;
}

function findFailure(
  rules: RolloutRules,
  tenant: RolloutTenant,
  { since, now }: { since: Date | null; now: Date },
): string | undefined {
  const { attempts, trouble } = tenant;
  if (attempts >= ENOUGH_FAILURES) return `${attempts} failures in a row, the last: ${trouble ?? "no reason given"}`;
  return isOverdue(rules, since, now) ? describeLateness(rules, tenant) : undefined;
}

function isOverdue({ deadlineSeconds, attendedSince }: RolloutRules, since: Date | null, now: Date): boolean {
  const from = since === null || since < attendedSince ? attendedSince : since;
  return now.getTime() - from.getTime() >= deadlineSeconds * SECOND_MS;
}

function describeLateness({ deadlineSeconds }: RolloutRules, { trouble }: RolloutTenant): string {
  return `not healthy within ${deadlineSeconds} s: ${trouble ?? "it was still starting"}`;
}

export function settle({ tenantId }: RolloutTenant, state: SettledState, reason?: string): RolloutStep {
  return { kind: "settle", tenantId, state, reason };
}

function fail({ tenantId, backToReleaseId }: RolloutTenant, reason: string): RolloutStep {
  if (backToReleaseId === null) return { kind: "give-up", tenantId, reason };
  return { kind: "take-back", tenantId, to: backToReleaseId, reason, isFailure: true };
}
