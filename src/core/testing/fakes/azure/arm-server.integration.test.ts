import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test, type TestContext } from "node:test";
import type { ContainerApp } from "@azure/arm-appcontainers";
import { request } from "undici";
import type { Stamp } from "../../../platform/config.ts";
import { KEY_VAULT_SECRETS_USER } from "./arm/role-assignments.ts";
import { armClients, type LoopbackAzure, startLoopbackAzure } from "./arm/test-setup.ts";

const SHARE = "openclaw-state";
const STORAGE = "openclaw-nfs";
const FAST = { updateIntervalInMs: 1 };

type Clients = ReturnType<typeof armClients>;

function stampOf({ stamps }: LoopbackAzure, index = 0): Stamp {
  const stamp = stamps[index];
  assert.ok(stamp);
  return stamp;
}

/** Share, environment storage and the folder of one tenant. */
async function prepareState(clients: Clients, stamp: Stamp, tenant: string): Promise<void> {
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
async function prepareApp(azure: LoopbackAzure, clients: Clients, name: string, stamp = stampOf(azure)) {
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

async function putSecret({ identity }: LoopbackAzure, vaultUrl: string, name: string, value: string): Promise<void> {
  const { statusCode, body } = await request(`${vaultUrl}/secrets/${name}?api-version=7.6`, {
    method: "PUT",
    headers: { authorization: `Bearer ${identity.issue("the-control-plane", "https://vault.azure.net")}` },
    body: JSON.stringify({ value }),
  });
  await body.dump();
  assert.equal(statusCode, 200);
}

async function setUp(t: TestContext, options: Parameters<typeof startLoopbackAzure>[1] = {}) {
  const azure = await startLoopbackAzure(t, options);
  const clients = armClients(azure);
  const stamp = stampOf(azure);
  return { azure, arm: azure.arm, clients, stamp, group: stamp.resourceGroup };
}

async function all<Entry>(entries: AsyncIterable<Entry>): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const entry of entries) found.push(entry);
  return found;
}

function withCode(code: string, status?: number) {
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

test("a tenant's resources are made, run, sleep, wake and go", async (t) => {
  const { azure, arm, clients, group } = await setUp(t);
  const { app } = await prepareApp(azure, clients, "acme");
  const made = await clients.containers.containerApps.createOrUpdate(group, "acme", app, FAST);
  assert.equal(made.provisioningState, "Succeeded");
  assert.equal(made.location, "West Europe");
  assert.match(made.id ?? "", /\/resourcegroups\/openclaw-1\/providers\/Microsoft.App\/containerapps\/acme$/);
  assert.equal(made.latestRevisionName, "acme--one");
  assert.equal(made.configuration?.ingress?.transport, "Http");

  const address = `https://${made.configuration?.ingress?.fqdn}`;
  const health = await request(`${address}/healthz`);
  assert.deepEqual([health.statusCode, await health.body.text()], [200, "ok"]);
  const delivery = await request(`${address}/telegram-webhook`, {
    method: "POST",
    headers: { "x-telegram-bot-api-secret-token": "s3cret" },
    body: JSON.stringify({ update_id: 1 }),
  });
  assert.equal(delivery.headers["x-openclaw-delivery-accepted"], "durable");
  assert.deepEqual(
    arm.deliveries.map(({ app: name, body }) => [name, body]),
    [["acme", { update_id: 1 }]],
  );

  const { containerAppsRevisions: revisions } = clients.containers;
  const [revision] = await all(revisions.listRevisions(group, "acme"));
  assert.equal(revision?.runningState, "RunningAtMaxScale");
  await revisions.deactivateRevision(group, "acme", "acme--one");
  assert.equal((await revisions.getRevision(group, "acme", "acme--one")).replicas, 0);
  assert.equal((await request(`${address}/healthz`)).statusCode, 404);
  assert.equal((await clients.containers.containerApps.get(group, "acme")).runningStatus, "Stopped");
  await assert.rejects(
    revisions.deactivateRevision(group, "acme", "acme--one"),
    withCode("RevisionAlreadyInRequestedState"),
  );
  await revisions.activateRevision(group, "acme", "acme--one");
  assert.equal((await request(`${address}/healthz`)).statusCode, 200);

  await clients.containers.containerApps.delete(group, "acme", FAST);
  await assert.rejects(clients.containers.containerApps.get(group, "acme"), withCode("ResourceNotFound", 404));
  await assert.rejects(request(`${address}/healthz`));
  assert.deepEqual(arm.violations, []);
});
