import assert from "node:assert/strict";
import test from "node:test";
import type { z } from "zod";
import { Refusal } from "./refusal.ts";
import {
  appBody,
  appPatch,
  environmentStorageBody,
  identityBody,
  jobBody,
  jobStartBody,
  roleAssignmentBody,
  shareBody,
  validBody,
} from "./schema.ts";

const container = { name: "openclaw", image: "openclaw:1", resources: { cpu: 1, memory: "2Gi" } };
const app = {
  location: "westeurope",
  identity: { type: "UserAssigned", userAssignedIdentities: { "/some/identity": {} } },
  properties: {
    environmentId: "/some/environment",
    configuration: {
      activeRevisionsMode: "Multiple",
      ingress: { external: false, targetPort: 8_787, transport: "http" },
    },
    template: {
      containers: [{ ...container, probes: [{ type: "Startup", httpGet: { path: "/healthz", port: 8_787 } }] }],
      volumes: [{ name: "state", storageType: "NfsAzureFile", storageName: "openclaw-state" }],
    },
  },
};
const job = {
  location: "westeurope",
  properties: { configuration: { triggerType: "Manual", replicaTimeout: 60 }, template: { containers: [container] } },
};
const role = { properties: { roleDefinitionId: "/role", principalId: "p", principalType: "ServicePrincipal" } };
const storage = { properties: { nfsAzureFile: { server: "s", shareName: "/a/s", accessMode: "ReadWrite" } } };
const share = { properties: { enabledProtocols: "NFS", shareQuota: 100, rootSquash: "NoRootSquash" } };

/** A body that may be sent, and what is put in at a place of it to make it one that may not; undefined: it is left out. */
const BODIES: Record<
  string,
  [schema: z.ZodType, body: object, wrong: readonly (readonly [place: string, value: unknown])[]]
> = {
  app: [
    appBody,
    app,
    [
      ["sku", "big"],
      ["properties.provisioningState", "Succeeded"],
      ["properties.template.containers.0.privileged", true],
      ["properties.template.containers.0.probes.0.httpGet.port", undefined],
      ["properties.template.containers.0.probes.0.type", "Life"],
      ["properties.template.volumes.0.storageType", "NFS"],
      ["properties.configuration.activeRevisionsMode", "multiple"],
      ["properties.configuration.ingress.transport", "https"],
      ["properties.configuration.ingress.targetPort", "8787"],
      ["properties.configuration.identitySettings", [{ lifecycle: "None" }]],
      ["identity.type", "Assigned"],
      ["location", undefined],
    ],
  ],
  "change of an app": [appPatch, app, [["properties.configuration.activeRevisionsMode", "Some"]]],
  job: [
    jobBody,
    job,
    [
      ["properties.schedule", "* * * * *"],
      ["properties.configuration.replicaTimeout", undefined],
      ["properties.configuration.triggerType", "manual"],
      ["location", undefined],
    ],
  ],
  "start of a job": [
    jobStartBody,
    { containers: [container] },
    [
      ["containers.0.volumeMounts", []],
      ["volumes", []],
    ],
  ],
  identity: [
    identityBody,
    { location: "westeurope" },
    [
      ["name", "acme"],
      ["location", undefined],
      ["properties", { isolationScope: "Global" }],
    ],
  ],
  "role assignment": [
    roleAssignmentBody,
    role,
    [
      ["properties.scope", "/"],
      ["properties.principalId", undefined],
      ["properties.principalType", "Robot"],
      ["properties", undefined],
    ],
  ],
  share: [
    shareBody,
    share,
    [
      ["properties.quota", 100],
      ["properties.shareQuota", 0],
      ["properties.enabledProtocols", "nfs"],
    ],
  ],
  "storage of an environment": [
    environmentStorageBody,
    storage,
    [
      ["properties.nfsAzureFile.account", "a"],
      ["properties.nfsAzureFile.accessMode", "All"],
    ],
  ],
};

for (const [name, [schema, body, wrong]] of Object.entries(BODIES)) {
  test(`${name}: what the description has is taken, and whatever it has not is refused and noted`, () => {
    const call = { method: "PUT", path: "/some/path" };
    const violations: string[] = [];
    assert.deepEqual(validBody(schema, { ...call, body }, violations), body);
    assert.deepEqual(violations, []);
    for (const [place, value] of wrong) {
      violations.length = 0;
      assert.throws(
        () => validBody(schema, { ...call, body: put(body, place, value) }, violations),
        (error) => error instanceof Refusal && error.status === 400 && error.code === "InvalidRequestContent",
        place,
      );
      // Of a field that is unknown, what it is in is named.
      const [within = ""] = place.split(/\.\w+$/);
      assert.match(violations.join(), new RegExp(`^PUT /some/path: (${within}|the body)`), place);
    }
  });
}

function put(body: object, place: string, value: unknown): unknown {
  const copy = structuredClone(body);
  const keys = place.split(".");
  const last = keys.pop() ?? "";
  const target = keys.reduce<object>((at, key) => Reflect.get(at, key) as object, copy);
  Reflect.set(target, last, value);
  // As it is sent: what is undefined is left out.
  return JSON.parse(JSON.stringify(copy));
}
