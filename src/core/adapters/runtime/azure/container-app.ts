import type { ContainerApp, EnvironmentVar, Secret } from "@azure/arm-appcontainers";
import type { Stamp } from "../../../platform/config.ts";
import type { RuntimeSpec } from "../runtime-driver.ts";
import { identityId, ownTags, PULL_IDENTITY, runtimeName, STATE_SHARE } from "./names.ts";

export const WEBHOOK_PORT = 8_787;
const GATEWAY_PORT = 18_789;
const HOME = "/home/node";
const STATE_PATH = `${HOME}/.openclaw`;
const CONFIG_PATH = "/etc/openclaw";
const CONFIG_FILE = "openclaw.json";
/** Leaves room for what a process needs beside its heap. */
const HEAP_SHARE = 0.75;
/** Turns that are under way end in that time or are taken up again from the state. */
const GRACE_SECONDS = 60;

/** Where a tenant's state lies on the stamp's share. */
export function statePath(tenantId: string): string {
  return `tenants/${tenantId}`;
}

/**
 * The container app of a runtime, as one body: an update that leaves something out would drop it, since Azure replaces lists whole
 * and never tells the values of secrets. Secrets are references that the platform resolves with the runtime's identity, which the
 * container itself can't use; the one value among them is the configuration, which holds none.
 */
export function containerAppOf(spec: RuntimeSpec, stamp: Stamp, installation: string, suffix: string): ContainerApp {
  const name = runtimeName(spec.tenantId);
  const own = identityId(stamp, name);
  const pull = stamp.acrServer === undefined ? [] : [identityId(stamp, PULL_IDENTITY)];
  const configSecret = `config-${spec.hash.slice(0, 10)}`;
  return {
    location: stamp.location,
    tags: { ...ownTags(installation, spec.tenantId), "openclaw-slug": spec.slug },
    identity: {
      type: "UserAssigned",
      userAssignedIdentities: Object.fromEntries([own, ...pull].map((id) => [id, {}])),
    },
    environmentId: stamp.environmentId,
    configuration: {
      // Old and new never overlap: the old one is deactivated by us before the new one is made.
      activeRevisionsMode: "Multiple",
      maxInactiveRevisions: 3,
      ingress: {
        // Of an environment that is itself internal, this is its network and nobody beyond.
        external: stamp.reachableFrom === "network",
        targetPort: WEBHOOK_PORT,
        transport: "http",
        allowInsecure: false,
        traffic: [{ latestRevision: true, weight: 100 }],
      },
      registries: pull.map((identity) => ({ server: stamp.acrServer ?? "", identity })),
      secrets: [
        ...sorted(spec.secrets).map(([variable, secret]): Secret => ({
          name: secretNameOf(variable),
          keyVaultUrl: `${stamp.vaultUrl}/secrets/${secret}`,
          identity: own,
        })),
        { name: configSecret, value: JSON.stringify(spec.config) },
      ],
      identitySettings: [own, ...pull].map((identity) => ({ identity, lifecycle: "None" })),
    },
    template: {
      revisionSuffix: suffix,
      terminationGracePeriodSeconds: GRACE_SECONDS,
      containers: [
        {
          name: "openclaw",
          image: spec.image,
          args: ["node", "dist/index.js", "gateway", "--bind", "lan", "--port", String(GATEWAY_PORT)],
          env: environmentOf(spec),
          resources: { cpu: spec.cpu, memory: `${spec.memoryMiB / 1_024}Gi` },
          volumeMounts: [
            { volumeName: "state", mountPath: STATE_PATH, subPath: statePath(spec.tenantId) },
            { volumeName: "config", mountPath: CONFIG_PATH },
          ],
          // The webhook listener's own: all other signs of life are green while it is down (F47).
          probes: [
            {
              type: "Startup",
              httpGet: { path: "/healthz", port: WEBHOOK_PORT },
              periodSeconds: 30,
              failureThreshold: 10,
            },
            {
              type: "Readiness",
              httpGet: { path: "/healthz", port: WEBHOOK_PORT },
              periodSeconds: 5,
              failureThreshold: 3,
            },
            {
              type: "Liveness",
              httpGet: { path: "/healthz", port: WEBHOOK_PORT },
              periodSeconds: 30,
              timeoutSeconds: 10,
              failureThreshold: 5,
            },
          ],
        },
      ],
      scale: { minReplicas: 1, maxReplicas: 1 },
      volumes: [
        { name: "state", storageType: "NfsAzureFile", storageName: STATE_SHARE },
        { name: "config", storageType: "Secret", secrets: [{ secretRef: configSecret, path: CONFIG_FILE }] },
      ],
    },
  };
}

function environmentOf(spec: RuntimeSpec): EnvironmentVar[] {
  const plain: Record<string, string> = {
    TZ: "UTC",
    NODE_OPTIONS: `--max-old-space-size=${Math.floor(spec.memoryMiB * HEAP_SHARE)}`,
    ...spec.env,
    HOME,
    OPENCLAW_HOME: HOME,
    OPENCLAW_STATE_DIR: STATE_PATH,
    OPENCLAW_CONFIG_PATH: `${CONFIG_PATH}/${CONFIG_FILE}`,
    XDG_CACHE_HOME: `${STATE_PATH}/cache`,
    NODE_COMPILE_CACHE: `${STATE_PATH}/cache/compile`,
    OPENCLAW_CONFIG_READONLY: "1",
    OPENCLAW_DISABLE_BONJOUR: "1",
    OPENCLAW_NO_AUTO_UPDATE: "1",
    OPENCLAW_OFFLINE: "1",
    DO_NOT_TRACK: "1",
  };
  return [
    ...sorted(plain).map(([name, value]) => ({ name, value })),
    ...sorted(spec.secrets).map(([name]) => ({ name, secretRef: secretNameOf(name) })),
  ];
}

/** A spec comes back from the database in another order; of the same spec, an app with the same template is made. */
function sorted(record: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(record).toSorted(([one], [other]) => (one < other ? -1 : 1));
}

/** Container Apps allows lower-case letters, digits and `-`. */
function secretNameOf(variable: string): string {
  return variable.toLowerCase().replaceAll("_", "-");
}
