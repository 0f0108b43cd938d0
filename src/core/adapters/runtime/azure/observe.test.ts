import assert from "node:assert/strict";
import test from "node:test";
import type { ContainerApp, Revision } from "@azure/arm-appcontainers";
import { someTenantId } from "../contract.ts";
import { observeApp } from "./observe.ts";

const REVISION = "oc-a--r0123456789-1";
const spec = {
  tenantId: someTenantId(),
  hash: "0123456789abcdef",
} as Parameters<typeof observeApp>[0]["spec"] & object;

function see(app: Partial<ContainerApp>, revision: Partial<Revision> = {}) {
  const whole = {
    location: "westeurope",
    provisioningState: "Succeeded",
    latestRevisionName: REVISION,
    latestReadyRevisionName: REVISION,
    configuration: { ingress: { fqdn: "oc-a.internal.example" } },
    template: { revisionSuffix: "r0123456789-1" },
    ...app,
  } as ContainerApp;
  const revisions = [{ name: REVISION, active: true, replicas: 1, ...revision } as Revision];
  return observeApp({ tenantId: spec.tenantId, spec, app: whole, revisions, drift: [] });
}

test("a runtime is worth asking once its revision is ready, at its ingress and nowhere else (F1, F2)", () => {
  const { state, address } = see({});
  assert.deepEqual([state, address], ["running", "https://oc-a.internal.example"]);
});

test("an endpoint that comes back empty is no endpoint: the runtime is not up (F30)", () => {
  for (const ingress of [{ fqdn: "" }, {}]) {
    const { state, address, reason } = see({ configuration: { ingress } });
    assert.deepEqual([state, address], ["starting", undefined]);
    assert.match(reason ?? "", /address/);
  }
});

test("an older revision that is ready does not stand for the latest one (F47)", () => {
  assert.equal(see({ latestReadyRevisionName: "oc-a--r9999999999-1" }).state, "starting");
});

test("a revision whose container does not start is a failure, one that is stopped is asleep (F32)", () => {
  assert.equal(see({}, { runningState: "Failed" }).state, "failed");
  assert.equal(see({}, { active: false, replicas: 0 }).state, "asleep");
});
