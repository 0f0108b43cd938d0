import type { ObservedRuntime, RuntimeDriver, RuntimeSpec } from "../adapters/runtime/runtime-driver.ts";
import { addMs } from "../platform/clock.ts";
import { assertNever } from "../platform/errors.ts";
import type { Tenant } from "../tenants/tenants.ts";
import { QUIET_MS, REST_MS } from "./hibernation.ts";
import type { RuntimeRow } from "./store.ts";

/**
 * What a tenant's status asks of its runtime. `asleep`: stopped until the next message, and kept current meanwhile. `stopped`: whatever
 * there is sleeps. `removed`: it is on its way out. `left`: nothing is done.
 */
export type Goal = "awake" | "asleep" | "stopped" | "removed" | "left";

/** The next step towards the goal. `wait`: what was begun takes its time. */
export type Action = "ensure" | "wake" | "sleep" | "remove" | "wait" | "nothing";

export const DRIFT_KINDS = [
  "missing",
  "extra",
  "image",
  "configuration",
  "tampered",
  "secrets",
  "asleep",
  "awake",
  "unhealthy",
  "stuck",
] as const;
export type DriftKind = (typeof DRIFT_KINDS)[number];

/** One way in which a runtime is not what it should be; `words` is for people. */
export type Drift = { kind: DriftKind; words: string };

export type PlanFacts = {
  tenant: Tenant;
  spec: RuntimeSpec;
  /** Undefined: there is none. */
  observed: ObservedRuntime | undefined;
  /** What is on record. */
  known: Pick<RuntimeRow, "state" | "stateSince" | "secretRefusedAt"> | undefined;
  driver: RuntimeDriver["name"];
  /** Names of its secrets that the vault doesn't have; empty where nobody looked. */
  missingSecrets?: readonly string[];
  now: Date;
};

export type Plan = { goal: Goal; action: Action; drift: Drift[] };

/** Boots take 30 to 150 s (F11). */
export const BOOT_MS = 180_000;
/** A removal that takes longer has something in its way. */
const REMOVAL_MS = 30 * 60_000;

export function goalOf({ status, hibernatedAt }: Pick<Tenant, "status" | "hibernatedAt">): Goal {
  switch (status) {
    case "provisioning":
      return "awake";
    case "active":
      return hibernatedAt === null ? "awake" : "asleep";
    case "pending":
    case "suspended":
      return "stopped";
    case "deprovisioning":
      return "removed";
    case "deleted":
      return "left";
    default:
      return assertNever(status);
  }
}

/** Whether the spec is in force, healthy or not. */
export function isInForce(spec: RuntimeSpec, observed: ObservedRuntime | undefined): boolean {
  return observed !== undefined && observed.state !== "absent" && observed.specHash === spec.hash;
}

/** What to do next about a runtime, and what is wrong with it. A pure function: acting on it is its caller's part. */
export function planTenant(facts: PlanFacts): Plan {
  const goal = goalOf(facts.tenant);
  const drift = findDrift(facts);
  return { goal, action: nextAction(goal, facts, drift), drift };
}

/** How a runtime differs from what it should be. On its way there is no difference, and asleep on purpose is as it should be (F87). */
export function findDrift(facts: PlanFacts): Drift[] {
  const { tenant, observed, now } = facts;
  const goal = goalOf(tenant);
  const isThere = observed !== undefined && observed.state !== "absent";
  switch (goal) {
    case "awake":
      if (tenant.status === "provisioning")
        return stuck(tenant.provisioningDeadline, now, "not healthy by its deadline");
      return isThere ? [...findChanges(facts, observed), ...findTrouble(facts, observed)] : [missing()];
    case "asleep":
      return isThere ? [...findChanges(facts, observed), ...findWaking(facts, observed)] : [missing()];
    case "stopped":
      if (!isThere) return [];
      if (observed.state === "asleep") return isExpectedBack(tenant) ? findChanges(facts, observed) : [];
      return [{ kind: "awake", words: `it is ${observed.state}, and the tenant is ${tenant.status}` }];
    case "removed":
      return stuck(addMs(tenant.statusChangedAt, REMOVAL_MS), now, "its removal takes longer than half an hour");
    case "left":
      return isThere ? [{ kind: "extra", words: `it is ${observed.state}, and the tenant is deleted` }] : [];
    default:
      return assertNever(goal);
  }
}

function nextAction(goal: Goal, { tenant, spec, observed }: PlanFacts, drift: readonly Drift[]): Action {
  const isMadeAnew = !isInForce(spec, observed) || drift.some(({ kind }) => kind === "tampered" || kind === "secrets");
  const state = observed?.state ?? "absent";
  switch (goal) {
    case "awake":
      if (isMadeAnew || state === "failed") return "ensure";
      if (state === "asleep") return "wake";
      if (state === "starting") return "wait";
      // That it is healthy is yet to be recorded.
      return tenant.status === "provisioning" ? "ensure" : "nothing";
    case "asleep":
      if (state !== "asleep" && state !== "absent")
        return drift.some(({ kind }) => kind === "awake") ? "sleep" : "wait";
      return isMadeAnew ? "ensure" : "nothing";
    case "stopped":
      if (state !== "asleep") return state === "absent" ? "nothing" : "sleep";
      return isMadeAnew && isExpectedBack(tenant) ? "ensure" : "nothing";
    case "removed":
      return "remove";
    case "left":
      return "nothing";
    default:
      return assertNever(goal);
  }
}

/** Whether what sleeps is kept current: whoever was never paid for is made what it should be when that changes. */
export function isExpectedBack({ status }: Pick<Tenant, "status">): boolean {
  return status === "suspended";
}

function missing(): Drift {
  return { kind: "missing", words: "there is none" };
}

/** What it is, apart from whether it runs. */
function findChanges({ spec, driver, missingSecrets = [] }: PlanFacts, observed: ObservedRuntime): Drift[] {
  // What somebody else made of it is nothing that we could compare.
  const isTampered = observed.drift.length > 0;
  const isOther = !isTampered && observed.specHash !== spec.hash;
  // On one machine it is a program that runs.
  const isOtherImage = isOther && driver !== "local" && observed.image !== "" && observed.image !== spec.image;
  const configuration = `its configuration is ${shorten(observed.specHash)} instead of ${shorten(spec.hash)}`;
  return [
    ...found(isTampered, "tampered", `changed by somebody else: ${observed.drift.join(", ")}`),
    ...found(isOtherImage, "image", `it runs ${observed.image} instead of ${spec.image}`),
    ...found(isOther && !isOtherImage, "configuration", configuration),
    ...found(missingSecrets.length > 0, "secrets", `not in the vault: ${missingSecrets.join(", ")}`),
  ];
}

function findTrouble({ known, now }: PlanFacts, { state, reason }: ObservedRuntime): Drift[] {
  if (state === "asleep") return [{ kind: "asleep", words: "it sleeps, and should be awake" }];
  const isBooting = state === "starting" && known?.state === "starting" && addMs(known.stateSince, BOOT_MS) > now;
  const isRefusing = known !== undefined && known.secretRefusedAt !== null;
  const why = reason === undefined ? "" : `: ${reason}`;
  return [
    ...found(!isBooting && state !== "running", "unhealthy", `it is ${state}${why}`),
    ...found(isRefusing, "secrets", "it refuses the webhook secret of the vault"),
  ];
}

function findWaking({ tenant, now }: PlanFacts, { state }: ObservedRuntime): Drift[] {
  const isGoingToSleep = tenant.hibernatedAt !== null && addMs(tenant.hibernatedAt, QUIET_MS + REST_MS) > now;
  return found(!isGoingToSleep && state !== "asleep", "awake", `it is ${state}, and should be asleep`);
}

function stuck(deadline: Date | null, now: Date, words: string): Drift[] {
  return found(deadline !== null && deadline <= now, "stuck", words);
}

function found(isSo: boolean, kind: DriftKind, words: string): Drift[] {
  return isSo ? [{ kind, words }] : [];
}

function shorten(hash: string): string {
  return hash === "" ? "unknown" : hash.slice(0, 8);
}
