import assert from "node:assert/strict";
import test from "node:test";
import { TENANT_STATUSES, type TenantStatus } from "../tenants/tenants.ts";
import { type Occasion, planStatusEffect } from "./effects.ts";

const OCCASIONS: Occasion[] = ["began", "ended", "review"];
const ended = { entitled: false, reason: "the subscription ended" };
const live = { entitled: true, reason: "subscription active" };

type Options = { suspendedBy?: "billing" | "operator"; billingExempt?: boolean; provisionWhenDeleted?: boolean };

/** The effect in one word. */
function effect(status: TenantStatus, entitlement: typeof live, occasion: Occasion, options: Options = {}): string {
  const { billingExempt = false, provisionWhenDeleted = false } = options;
  const suspendedBy = status === "suspended" ? (options.suspendedBy ?? "billing") : null;
  const planned = planStatusEffect({ status, suspendedBy, billingExempt, provisionWhenDeleted }, entitlement, occasion);
  if (planned === undefined) return "none";
  return planned.kind === "change" ? planned.change.to : `when deleted: ${planned.value}`;
}

test("what begins to be paid starts; what ends is removed; what is no longer paid is suspended", () => {
  const table = TENANT_STATUSES.map((status) => [
    status,
    ...[live, ended].flatMap((entitlement) => OCCASIONS.map((occasion) => effect(status, entitlement, occasion))),
  ]);
  assert.deepEqual(table, [
    // status, entitled: began, ended, review; not entitled: began, ended, review
    ["pending", "provisioning", "none", "none", "none", "deprovisioning", "none"],
    ["provisioning", "none", "none", "none", "none", "deprovisioning", "none"],
    ["active", "none", "none", "none", "suspended", "deprovisioning", "suspended"],
    ["suspended", "active", "active", "active", "none", "deprovisioning", "none"],
    ["deprovisioning", "when deleted: true", "none", "none", "none", "none", "none"],
    ["deleted", "provisioning", "none", "none", "none", "none", "none"],
  ]);
});

test("billing's own suspension names billing and the reason", () => {
  const tenant = { status: "active", suspendedBy: null, billingExempt: false, provisionWhenDeleted: false } as const;
  assert.deepEqual(planStatusEffect(tenant, { entitled: false, reason: "the payment failed" }, "review"), {
    kind: "change",
    change: { to: "suspended", suspendedBy: "billing", reason: "the payment failed" },
  });
});

test("an operator's suspension is never lifted by billing", () => {
  for (const occasion of OCCASIONS)
    assert.equal(effect("suspended", live, occasion, { suspendedBy: "operator" }), "none");
});

test("an operator's suspension does not keep an ended subscription's tenant from being removed", () => {
  assert.equal(effect("suspended", ended, "ended", { suspendedBy: "operator" }), "deprovisioning");
});

test("exempt tenants are left alone in every status and on every occasion (F58)", () => {
  for (const status of TENANT_STATUSES) {
    for (const occasion of OCCASIONS) {
      assert.equal(effect(status, ended, occasion, { billingExempt: true }), "none");
      assert.equal(effect(status, live, occasion, { billingExempt: true }), "none");
    }
  }
});

test("a subscriber who pays while the trial's runtime runs keeps it (F69)", () => {
  assert.equal(effect("active", live, "began"), "none");
});

test("entitlement that came back during removal is forgotten when it is lost again", () => {
  assert.equal(effect("deprovisioning", ended, "review", { provisionWhenDeleted: true }), "when deleted: false");
  assert.equal(effect("deprovisioning", live, "began", { provisionWhenDeleted: true }), "none");
});
