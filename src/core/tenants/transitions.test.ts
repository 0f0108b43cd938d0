import assert from "node:assert/strict";
import test from "node:test";
import { canTransition, nextStatuses, TENANT_STATUSES } from "./transitions.ts";

test("exactly the transitions of the contract exist", () => {
  const all = TENANT_STATUSES.flatMap((from) => nextStatuses(from).map((to) => `${from} → ${to}`));
  assert.deepEqual(all.sort(), [
    "active → deprovisioning",
    "active → suspended",
    "deleted → pending",
    "deleted → provisioning",
    "deprovisioning → deleted",
    "pending → deprovisioning",
    "pending → provisioning",
    "provisioning → active",
    "provisioning → deprovisioning",
    "provisioning → pending",
    "suspended → active",
    "suspended → deprovisioning",
  ]);
});

test("no status leads to itself", () => {
  for (const status of TENANT_STATUSES) assert.equal(canTransition(status, status), false);
});
