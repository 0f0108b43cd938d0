import type { Compared, Drift, SweepState } from "../../core/orchestrator/orchestrator.ts";
import { say } from "../output.ts";
import { formatAge } from "../route/view.ts";

/** The documented JSON form of a tenant whose runtime was compared. */
export function comparedDocument({ tenant, observed, plan }: Compared) {
  return {
    tenant: tenant.slug,
    id: tenant.id,
    status: tenant.status,
    state: observed?.state ?? "absent",
    image: observed?.image ?? "",
    goal: plan.goal,
    action: plan.action,
    drift: plan.drift,
  };
}

export function describeDrift(drift: readonly Drift[]): string {
  return drift.map(({ kind, words }) => `${kind}: ${words}`).join("; ") || "as it should be";
}

/** When the last sweep ended well, what it saw, and whether one came to nothing since. */
export function describeSweep({ succeededAt, problem, runtimes, drift }: SweepState, now: Date): string {
  const kinds = Object.entries(drift).map(([kind, count]) => `${count} ${kind}`);
  const found = kinds.length === 0 ? "nothing to mend" : kinds.join(", ");
  const last =
    succeededAt === null ? "none yet" : `${formatAge(succeededAt, now)} ago, of ${runtimes} runtimes: ${found}`;
  return problem === null ? last : `${last}; since then: ${problem}`;
}

/** A fleet that differs as a whole is more likely seen with other settings than its daemons'. */
export function hintAtSettings(compared: readonly Compared[]): void {
  const there = compared.filter(({ observed }) => observed !== undefined);
  const isOff = ({ plan }: Compared) => plan.drift.some(({ kind }) => kind === "image" || kind === "configuration");
  if (there.length < 2 || !there.every(isOff)) return;
  say("Every runtime differs. Does this command have the same OPENCLAW_… settings as the daemons?");
}
