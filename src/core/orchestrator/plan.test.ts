import assert from "node:assert/strict";
import test from "node:test";
import { absentRuntime, type ObservedRuntime, type RuntimeState } from "../adapters/runtime/runtime-driver.ts";
import { addMs } from "../platform/clock.ts";
import { TENANT_STATUSES, type Tenant, type TenantStatus } from "../tenants/tenants.ts";
import { type PlanFacts, planTenant } from "./plan.ts";
import { computeSpec } from "./spec.ts";
import { EXAMPLE_TENANT } from "./test-tenant.ts";

const now = new Date("2026-03-01T12:00:00Z");
const tenant: Tenant = { ...EXAMPLE_TENANT, statusChangedAt: addMs(now, -3_600_000) };
const tenantId = tenant.id;
const spec = computeSpec(tenant, {
  image: "openclaw:1",
  modelsByTier: { basic: ["claude-haiku-4-5"], plus: ["claude-sonnet-4-5"] },
  internalUrl: "http://127.0.0.1:9090",
});

function inState(state: RuntimeState, change: Partial<ObservedRuntime> = {}): ObservedRuntime {
  if (state === "absent") return absentRuntime(tenantId);
  return { ...absentRuntime(tenantId), state, image: spec.image, specHash: spec.hash, ...change };
}

function plan(change: Partial<Tenant>, observed: ObservedRuntime | undefined, more: Partial<PlanFacts> = {}) {
  const facts = { tenant: { ...tenant, ...change }, spec, observed, known: undefined, driver: "azure" as const, now };
  const { action, drift } = planTenant({ ...facts, ...more });
  return [action, ...drift.map(({ kind }) => kind)].join(" ");
}

/** The action, then what is wrong. */
const EXPECTED: Record<TenantStatus | "hibernated", Record<RuntimeState, string>> = {
  pending: {
    absent: "nothing",
    asleep: "nothing",
    starting: "sleep awake",
    running: "sleep awake",
    failed: "sleep awake",
  },
  provisioning: { absent: "ensure", asleep: "wake", starting: "wait", running: "ensure", failed: "ensure" },
  active: {
    absent: "ensure missing",
    asleep: "wake asleep",
    starting: "wait unhealthy",
    running: "nothing",
    failed: "ensure unhealthy",
  },
  hibernated: {
    absent: "ensure missing",
    asleep: "nothing",
    starting: "sleep awake",
    running: "sleep awake",
    failed: "sleep awake",
  },
  suspended: {
    absent: "nothing",
    asleep: "nothing",
    starting: "sleep awake",
    running: "sleep awake",
    failed: "sleep awake",
  },
  deprovisioning: {
    absent: "remove stuck",
    asleep: "remove stuck",
    starting: "remove stuck",
    running: "remove stuck",
    failed: "remove stuck",
  },
  deleted: {
    absent: "nothing",
    asleep: "nothing extra",
    starting: "nothing extra",
    running: "nothing extra",
    failed: "nothing extra",
  },
};

test("every status and every state of a runtime has its next step, and says what is wrong (F57, F87)", () => {
  for (const status of [...TENANT_STATUSES, "hibernated" as const]) {
    const change: Partial<Tenant> =
      status === "hibernated" ? { status: "active", hibernatedAt: addMs(now, -3_600_000) } : { status };
    for (const state of ["absent", "asleep", "starting", "running", "failed"] as const)
      assert.equal(plan(change, inState(state)), EXPECTED[status][state], `${status}, ${state}`);
    assert.equal(plan(change, undefined), EXPECTED[status].absent, `${status}, not listed`);
  }
});

test("another image, another configuration and what somebody else changed are told apart, awake or asleep (F40)", () => {
  const asleep: Partial<Tenant> = { hibernatedAt: addMs(now, -3_600_000) };
  for (const [change, state] of [
    [{}, "running"],
    [asleep, "asleep"],
  ] as const) {
    assert.equal(plan(change, inState(state, { image: "openclaw:0", specHash: "old" })), "ensure image");
    assert.equal(plan(change, inState(state, { specHash: "old" })), "ensure configuration");
    assert.equal(plan(change, inState(state, { drift: ["scale"] })), "ensure tampered");
    assert.equal(
      plan(change, inState(state, { drift: ["image"], image: "theirs:1", specHash: "" })),
      "ensure tampered",
    );
  }
  assert.equal(plan({ status: "suspended" }, inState("asleep", { specHash: "old" })), "ensure configuration");
  assert.equal(plan({ status: "pending" }, inState("asleep", { specHash: "old" })), "nothing");
  assert.equal(plan({}, inState("asleep", { image: "", specHash: "old" })), "ensure configuration asleep");
  assert.equal(plan({}, inState("running", { image: "a program" }), { driver: "local" }), "nothing");
});

test("a secret that is not in the vault is mended with the runtime", () => {
  const facts = { tenant, spec, observed: inState("running"), known: undefined, driver: "azure", now } as const;
  const { action, drift } = planTenant({ ...facts, missingSecrets: ["model-key"] });
  assert.deepEqual([action, drift], ["ensure", [{ kind: "secrets", words: "not in the vault: model-key" }]]);
  const known = { state: "running", stateSince: now, secretRefusedAt: now } as const;
  assert.equal(plan({}, inState("running"), { known }), "ensure secrets");
});

test("a runtime that boots has time to, and one that was decided to sleep is let be until it is quiet (F11)", () => {
  const starting = inState("starting");
  const since = (ms: number) => ({
    known: { state: "starting" as const, stateSince: addMs(now, -ms), secretRefusedAt: null },
  });
  assert.equal(plan({}, starting, since(179_000)), "wait");
  assert.equal(plan({}, starting, since(180_000)), "wait unhealthy");
  assert.equal(
    plan({}, starting, { known: { state: "running", stateSince: now, secretRefusedAt: null } }),
    "wait unhealthy",
    "it was healthy",
  );
  assert.equal(plan({ hibernatedAt: addMs(now, -79_000) }, inState("running")), "wait");
  assert.equal(plan({ hibernatedAt: addMs(now, -80_000) }, inState("running")), "sleep awake");
});

test("what is on its way is no difference until its time is over (F51)", () => {
  const waiting = { status: "provisioning", provisioningDeadline: addMs(now, 1) } as const;
  assert.equal(plan(waiting, inState("starting")), "wait");
  assert.equal(plan({ ...waiting, provisioningDeadline: now }, inState("starting")), "wait stuck");
  assert.equal(plan({ status: "deprovisioning", statusChangedAt: addMs(now, -1_799_000) }, undefined), "remove");
});
