import {
  describeLeaving,
  judgeTenant,
  mayMove,
  type RolloutRules,
  type RolloutStep,
  type RolloutTenant,
  type RolloutTenantState,
  settle,
} from "./judge.ts";

/**
 * What is to be done for a rollout now, and whether there is something to look at again soon; tenants come in their order. Pure:
 * whoever carries the steps out must do so before anything is decided anew.
 */
export function planRollout(
  rules: RolloutRules,
  tenants: readonly RolloutTenant[],
  now: Date,
): { steps: RolloutStep[]; isOpen: boolean } {
  const judged = tenants.flatMap((tenant) => judgeTenant(rules, tenant, now) ?? []);
  const seen = foresee(tenants, judged);
  const verdict = judgeRelease(rules, seen, judged);
  const moves = verdict.length > 0 ? [] : nextMoves(rules, seen);
  const after = foresee(seen, moves);
  const isThrough = rules.status === "running" && verdict.length === 0 && after.every(({ state }) => isOver(state));
  return {
    steps: [...judged, ...verdict, ...moves, ...(isThrough ? [{ kind: "finish" as const }] : [])],
    isOpen: !isThrough && isOpen(rules, after, verdict),
  };
}

/** Who failed counts for good, also one that runs again on what it ran before. */
function judgeRelease(
  rules: RolloutRules,
  seen: readonly RolloutTenant[],
  judged: readonly RolloutStep[],
): RolloutStep[] {
  const failures = seen.filter(({ hasFailed }) => hasFailed).length;
  if (failures < rules.maxFailures) return [];
  const reason = `${failures} of its tenants failed, the limit is ${rules.maxFailures}`;
  if (rules.status === "running" || rules.status === "paused") return [{ kind: "halt", reason }];
  const isNews = judged.some((step) => step.kind === "give-up" || (step.kind === "take-back" && step.isFailure));
  return isNews && !rules.isReleaseFailed ? [{ kind: "fail-release", reason }] : [];
}

function nextMoves(rules: RolloutRules, seen: readonly RolloutTenant[]): RolloutStep[] {
  if (rules.status === "running") return begin(rules, seen);
  return rules.status === "aborted" && rules.takesBack ? takeBack(rules, seen) : [];
}

/** A cohort begins once nobody of those before it is on the way any more. */
function begin({ parallel }: RolloutRules, seen: readonly RolloutTenant[]): RolloutStep[] {
  const moving = seen.filter(({ state }) => state === "moving");
  let room = parallel - moving.length;
  let cohort = Math.min(...moving.map((tenant) => tenant.cohort));
  const steps: RolloutStep[] = [];
  for (const tenant of seen) {
    if (tenant.state !== "pending") continue;
    if (tenant.cohort > cohort || room <= 0) break;
    if (!mayMove(tenant)) {
      steps.push(settle(tenant, "skipped", describeLeaving(tenant)));
      continue;
    }
    steps.push({ kind: "start", tenantId: tenant.tenantId });
    cohort = Math.min(cohort, tenant.cohort);
    room -= 1;
  }
  return steps;
}

/** No more of them at once than were moved at once; those that are on the way first. */
function takeBack(rules: RolloutRules, seen: readonly RolloutTenant[]): RolloutStep[] {
  const room = rules.parallel - seen.filter(({ state }) => state === "rolling-back").length;
  const candidates = seen.filter((tenant) => isToGoBack(rules, tenant));
  const inOrder = [
    ...candidates.filter(({ state }) => state === "moving"),
    ...candidates.filter(({ state }) => state !== "moving"),
  ];
  return inOrder.slice(0, Math.max(0, room)).flatMap(({ tenantId, backToReleaseId }) => {
    if (backToReleaseId === null) return [];
    return [{ kind: "take-back", tenantId, to: backToReleaseId, reason: "the rollout was aborted", isFailure: false }];
  });
}

function isToGoBack({ releaseId }: RolloutRules, tenant: RolloutTenant): boolean {
  const { state, target, backToReleaseId } = tenant;
  const wasMoved = state === "moving" || state === "healthy" || state === "moved-asleep";
  return wasMoved && mayMove(tenant) && target?.releaseId === releaseId && backToReleaseId !== null;
}

/** The tenants as they are once the steps are done. */
function foresee(tenants: readonly RolloutTenant[], steps: readonly RolloutStep[]): RolloutTenant[] {
  const byTenant = new Map(steps.flatMap((step) => ("tenantId" in step ? [[step.tenantId, step] as const] : [])));
  return tenants.map((tenant) => {
    const step = byTenant.get(tenant.tenantId);
    switch (step?.kind) {
      case undefined:
        return tenant;
      case "start":
        return { ...tenant, state: "moving" };
      case "settle":
        return { ...tenant, state: step.state };
      case "give-up":
        return { ...tenant, state: "failed", hasFailed: true };
      case "take-back":
        return { ...tenant, state: "rolling-back", hasFailed: tenant.hasFailed || step.isFailure };
    }
  });
}

function isOver(state: RolloutTenantState): boolean {
  return state !== "pending" && state !== "moving" && state !== "rolling-back";
}

function isOpen(rules: RolloutRules, after: readonly RolloutTenant[], verdict: readonly RolloutStep[]): boolean {
  const goesOn = rules.status === "running" && verdict.length === 0;
  return after.some((tenant) => {
    if (tenant.state === "pending") return goesOn;
    if (!isOver(tenant.state)) return true;
    const { state, target } = tenant;
    return state === "moved-asleep" && target?.state === "waking" && target.releaseId === rules.releaseId;
  });
}
