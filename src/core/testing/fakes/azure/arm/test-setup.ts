import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import type { TestContext } from "node:test";
import { type ContainerApp, ContainerAppsAPIClient } from "@azure/arm-appcontainers";
import { AuthorizationManagementClient } from "@azure/arm-authorization";
import { ManagedServiceIdentityClient } from "@azure/arm-msi";
import type { TokenCredential } from "@azure/identity";
import { StorageManagementClient } from "@azure/arm-storage";
import { request } from "undici";
import type { Stamp } from "../../../../platform/config.ts";
import type { StampId } from "../../../../platform/ids.ts";
import { type ArmServer, startArm } from "../arm-server.ts";
import { trustLoopback } from "../certificate.ts";
import { type IdentityServer, startIdentityServer } from "../identity-server.ts";
import { type KeyVaultServer, startKeyVault } from "../key-vault.ts";
import { KEY_VAULT_SECRETS_USER } from "./role-assignments.ts";

/** A stamp of the loopback Azure; `number` tells several apart. */
export function loopbackStamp(number: number, vaultUrl: string): Stamp {
  const subscriptionId = `00000000-0000-4000-8000-00000000000${number}`;
  const resourceGroup = `openclaw-${number}`;
  return {
    id: (number === 1 ? "default" : `stamp-${number}`) as StampId,
    subscriptionId,
    resourceGroup,
    location: number === 1 ? "westeurope" : "northeurope",
    environmentId: `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.App/managedEnvironments/openclaw-env`,
    acrServer: `openclaw${number}.azurecr.io`,
    vaultName: `openclaw-vault-${number}`,
    vaultUrl,
    storageAccount: `openclawstate${number}`,
    reachableFrom: "environment",
    coresQuota: undefined,
  };
}

/** The principal of the control plane itself. */
const CONTROL_PLANE = "0aaaaaaa-0000-4000-8000-000000000001";

export type LoopbackAzure = {
  arm: ArmServer;
  identity: IdentityServer;
  vaults: KeyVaultServer[];
  stamps: Stamp[];
};

/** Everything of Azure on loopback, closed when the test ends. */
export async function startLoopbackAzure(
  t: TestContext,
  {
    stampCount = 1,
    pageSize = 20,
    containers = "virtual",
  }: { stampCount?: number; pageSize?: number; containers?: "virtual" | "sandbox" } = {},
): Promise<LoopbackAzure> {
  trustLoopback();
  const identity = await startIdentityServer(CONTROL_PLANE);
  t.after(() => identity.close());
  let opened: ArmServer | undefined;
  // The control plane may do all; whoever else comes, what a role in force lets it.
  const authorizeFor = (vault: number) => (principalId: string, name: string, method: string) =>
    principalId === CONTROL_PLANE ||
    (method === "GET" && opened?.mayRead(principalId, name, stamps[vault]?.vaultUrl) === true);
  const vaults: KeyVaultServer[] = await Promise.all(
    Array.from({ length: stampCount }, (_, vault) => startKeyVault(identity, { authorize: authorizeFor(vault) })),
  );
  t.after(() => Promise.all(vaults.map((vault) => vault.close())));
  const stamps = vaults.map(({ url }, index) => loopbackStamp(index + 1, url));
  const arm = await startArm({ identity, vaults, stamps, owner: CONTROL_PLANE, pageSize, containers });
  opened = arm;
  t.after(() => arm.close());
  return { arm, identity, vaults, stamps };
}

/** A token of the control plane's own. */
export function ownToken(identity: IdentityServer, audience: string): string {
  return identity.issue(CONTROL_PLANE, audience);
}

/** Its tokens, for whatever it asks. */
export function ownCredential(identity: IdentityServer): TokenCredential {
  return {
    async getToken(scopes) {
      const [scope = ""] = [scopes].flat();
      const token = ownToken(identity, scope.replace(/\/\.default$/, ""));
      return { token, expiresOnTimestamp: Number.MAX_SAFE_INTEGER };
    },
  };
}

export function firstStamp({ stamps: [stamp] }: LoopbackAzure): Stamp {
  assert.ok(stamp);
  return stamp;
}

/** The real clients, which wait for nothing and try nothing again. */
export function armClients(azure: LoopbackAzure, stamp: Stamp = firstStamp(azure)) {
  const { arm, identity } = azure;
  const credential = {
    getToken: async () => ({
      token: identity.issue(CONTROL_PLANE, "https://management.azure.com"),
      expiresOnTimestamp: Number.MAX_SAFE_INTEGER,
    }),
  };
  const options = { endpoint: arm.url, retryOptions: { maxRetries: 0 } };
  return {
    containers: new ContainerAppsAPIClient(credential, stamp.subscriptionId, { ...options, apiVersion: "2025-07-01" }),
    identities: new ManagedServiceIdentityClient(credential, stamp.subscriptionId, options),
    roles: new AuthorizationManagementClient(credential, stamp.subscriptionId, options),
    storage: new StorageManagementClient(credential, stamp.subscriptionId, { ...options, apiVersion: "2025-08-01" }),
  };
}

export type Clients = ReturnType<typeof armClients>;

const SHARE = "openclaw-state";
const STORAGE = "openclaw-nfs";
/** Of pollers. */
export const FAST = { updateIntervalInMs: 1 };

/** Share, environment storage and the folder of one tenant. */
export async function prepareState(clients: Clients, stamp: Stamp, tenant: string): Promise<void> {
  const { resourceGroup, storageAccount, environmentId, location } = stamp;
  await clients.storage.fileShares.create(resourceGroup, storageAccount, SHARE, {
    enabledProtocols: "NFS",
    shareQuota: 100,
    rootSquash: "NoRootSquash",
  });
  await clients.containers.managedEnvironmentsStorages.createOrUpdate(resourceGroup, "openclaw-env", STORAGE, {
    properties: {
      nfsAzureFile: {
        server: `${storageAccount}.file.core.windows.net`,
        shareName: `/${storageAccount}/${SHARE}`,
        accessMode: "ReadWrite",
      },
    },
  });
  await clients.containers.jobs.createOrUpdate(
    resourceGroup,
    "state",
    {
      location,
      environmentId,
      configuration: { triggerType: "Manual", replicaTimeout: 60, manualTriggerConfig: { parallelism: 1 } },
      template: {
        containers: [
          {
            name: "state",
            image: "mcr.microsoft.com/azurelinux/base/core:3.0",
            command: ["/bin/sh", "-c"],
            args: ['mkdir -p "$SHARE/$TENANT"'],
            env: [
              { name: "SHARE", value: "/share" },
              { name: "TENANT", value: tenant },
            ],
            resources: { cpu: 0.25, memory: "0.5Gi" },
            volumeMounts: [{ volumeName: "state", mountPath: "/share" }],
          },
        ],
        volumes: [{ name: "state", storageType: "NfsAzureFile", storageName: STORAGE }],
      },
    },
    FAST,
  );
  const { name = "" } = await clients.containers.jobs.start(resourceGroup, "state", FAST);
  let status: string | undefined = "Running";
  while (status === "Running") ({ status } = await clients.containers.jobExecution(resourceGroup, "state", name));
  assert.equal(status, "Succeeded");
}

/** Identity, secret and role of one tenant, and its app as the control plane would ask for it. */
export async function prepareApp(azure: LoopbackAzure, clients: Clients, name: string, stamp = firstStamp(azure)) {
  await prepareState(clients, stamp, name);
  const { resourceGroup, subscriptionId, location, environmentId, vaultName, vaultUrl, acrServer } = stamp;
  const owner = await clients.identities.userAssignedIdentities.createOrUpdate(resourceGroup, name, { location });
  const secret = `${name}-webhook`;
  await putSecret(azure, vaultUrl, secret, "s3cret");
  const scope = `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.KeyVault/vaults/${vaultName}/secrets/${secret}`;
  await clients.roles.roleAssignments.create(scope, randomUUID(), {
    roleDefinitionId: `/subscriptions/${subscriptionId}/providers/Microsoft.Authorization/roleDefinitions/${KEY_VAULT_SECRETS_USER}`,
    principalId: owner.principalId ?? "",
    principalType: "ServicePrincipal",
  });
  const pull = `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/openclaw-pull`;
  const app: ContainerApp = {
    location,
    tags: { tenant: name },
    identity: { type: "UserAssigned", userAssignedIdentities: { [owner.id ?? ""]: {}, [pull]: {} } },
    environmentId,
    configuration: {
      activeRevisionsMode: "Multiple",
      secrets: [{ name: "webhook", keyVaultUrl: `${vaultUrl}/secrets/${secret}`, identity: owner.id ?? "" }],
      ingress: { external: true, targetPort: 8787, transport: "http", allowInsecure: false },
      registries: [{ server: acrServer ?? "", identity: pull }],
      identitySettings: [{ identity: owner.id ?? "", lifecycle: "None" }],
    },
    template: {
      revisionSuffix: "one",
      containers: [
        {
          name: "openclaw",
          image: `${acrServer}/openclaw:1`,
          env: [{ name: "TELEGRAM_WEBHOOK_SECRET", secretRef: "webhook" }],
          resources: { cpu: 1, memory: "2Gi" },
          volumeMounts: [{ volumeName: "state", mountPath: "/home/node/.openclaw", subPath: name }],
        },
      ],
      scale: { minReplicas: 1, maxReplicas: 1 },
      volumes: [{ name: "state", storageType: "NfsAzureFile", storageName: STORAGE }],
    },
  };
  return { app, owner, scope };
}

export async function putSecret(
  { identity }: LoopbackAzure,
  vaultUrl: string,
  name: string,
  value: string,
): Promise<void> {
  const { statusCode, body } = await request(`${vaultUrl}/secrets/${name}?api-version=7.6`, {
    method: "PUT",
    headers: { authorization: `Bearer ${identity.issue(CONTROL_PLANE, "https://vault.azure.net")}` },
    body: JSON.stringify({ value }),
  });
  await body.dump();
  assert.equal(statusCode, 200);
}

export async function setUpArm(t: TestContext, options: Parameters<typeof startLoopbackAzure>[1] = {}) {
  const azure = await startLoopbackAzure(t, options);
  const stamp = firstStamp(azure);
  return { azure, arm: azure.arm, clients: armClients(azure), stamp, group: stamp.resourceGroup };
}

export async function all<Entry>(entries: AsyncIterable<Entry>): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const entry of entries) found.push(entry);
  return found;
}

/** For `assert.rejects`. The SDKs put the code in one place or another. */
export function withCode(code: string, status?: number) {
  return (error: unknown): boolean => {
    const {
      statusCode,
      details,
      code: given,
    } = error as {
      statusCode?: number;
      code?: string;
      details?: { error?: { code?: string } };
    };
    assert.equal(details?.error?.code ?? given, code);
    if (status !== undefined) assert.equal(Number(statusCode), status);
    return true;
  };
}

/** A call that no SDK makes so, or whose headers are to be seen. */
export async function callArm(
  { arm, identity }: LoopbackAzure,
  method: "GET" | "PUT" | "PATCH" | "POST" | "DELETE",
  pathAndQuery: string,
  { body, token = ownToken(identity, "https://management.azure.com") }: { body?: unknown; token?: string } = {},
) {
  const response = await request(`${arm.url}${pathAndQuery}`, {
    method,
    headers: { authorization: `Bearer ${token}` },
    body: body === undefined ? null : JSON.stringify(body),
  });
  const text = await response.body.text();
  return {
    status: response.statusCode,
    headers: response.headers,
    text,
    body: (text === "" ? {} : JSON.parse(text)) as { error?: { code: string; message: string }; code?: string },
  };
}
