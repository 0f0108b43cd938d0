import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test, { type TestContext } from "node:test";
import { runtimeName, secretScope, secretsUserRoleId } from "../src/core/adapters/runtime/azure/names.ts";
import { TENANT_SECRETS, tenantSecretName } from "../src/core/adapters/vault/vault.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { rememberIds } from "../src/core/router/known-ids.ts";
import { PULL_IDENTITY } from "../src/core/testing/fakes/azure/arm/seed.ts";
import {
  armDoors,
  controlPlaneCredentials,
  controlPlaneDoors,
  type Credential,
  credentialsOf,
  type Door,
  gatewayDoors,
  type Tenant,
  vaultDoors,
  webhookDoor,
} from "./azure-doors.ts";
import { type AzureStage, openAzureStage } from "./azure-stage.ts";
import { documentOf, expectCode } from "./command.ts";
import type { Daemon } from "./daemon-process.ts";

const METRICS_TOKEN = "metrics-token-of-the-operator";
const STRIPE_SECRET = "whsec_of_the_operator";
const TELEGRAM_SECRET = "webhook-secret";
/** Where each tenant is: two share a stamp. */
const PLACES = { alice: "default", bob: "default", carol: "stamp-2" };

type Stage = AzureStage & { daemon: Daemon; tenants: Tenant[] };

async function openStage(t: TestContext): Promise<Stage> {
  const env = {
    OPENCLAW_METRICS_TOKEN: METRICS_TOKEN,
    STRIPE_WEBHOOK_SECRET: STRIPE_SECRET,
    // Either stamp can pull it.
    OPENCLAW_RUNTIME_IMAGE: "ghcr.io/openclaw/openclaw:1",
  };
  const stage = await openAzureStage(t, { env });
  const daemon = await stage.startDaemon();
  await daemon.saw("working");
  const tenants: Tenant[] = [];
  for (const [index, [slug, stampId]] of Object.entries(PLACES).entries()) {
    const owner = ["--email", `${slug}@example.com`, "--chat", String(111_000_001 + index), "--billing-exempt"];
    expectCode(await stage.openclaw("tenant", "create", slug, ...owner, "--stamp", stampId), 0);
    expectCode(await stage.openclaw("tenant", "provision", slug, "--wait"), 0);
    const { id } = documentOf(expectCode(await stage.openclaw("tenant", "show", slug, "--json"), 0)) as {
      id: TenantId;
    };
    tenants.push(findTenant(stage, { slug, id, stampId }));
    stage.telegram.addFile(`file-of-${slug}`, `photos/${slug}.jpg`, Buffer.from(slug));
    await rememberIds({ db: stage.database.db, clock: systemClock }, id, [
      { kind: "file-path", id: `photos/${slug}.jpg` },
    ]);
  }
  return { ...stage, daemon, tenants };
}

function findTenant(
  { arm, stamps }: AzureStage,
  { slug, id, stampId }: { slug: string; id: TenantId; stampId: string },
): Tenant {
  const stamp = stamps.find((one) => one.id === stampId);
  const app = arm.state.apps().find(({ name }) => name === runtimeName(id));
  const identity = arm.state.identities().find(({ name }) => name === runtimeName(id));
  assert.ok(stamp && app && identity);
  assert.ok(app.id.includes(stamp.subscriptionId), `${slug} is on ${stampId}`);
  return { slug, id, stamp, address: app.address, principalId: identity.principalId };
}

const isOpen = ({ status }: { status: number }): boolean => status < 300;

/** Knocks with each credential at each door. @returns the pairs that opened. */
async function openedBy(doors: readonly Door[], credentials: readonly Credential[]): Promise<string[]> {
  const opened = await Promise.all(
    doors.map(async (door) => {
      const found: string[] = [];
      for (const { holder, kind, value } of credentials)
        if (isOpen(await door.knock(value))) found.push(`${kind} of ${holder} opens ${door.name} of ${door.of}`);
      return found;
    }),
  );
  return opened.flat().toSorted();
}

function expectedOf(doors: readonly Door[], credentials: readonly Credential[]): string[] {
  return doors
    .flatMap(({ name, of, opensTo }) =>
      credentials
        .filter(({ holder, kind }) => holder === of && kind === opensTo)
        .map(({ kind, holder }) => `${kind} of ${holder} opens ${name} of ${of}`),
    )
    .toSorted();
}

function wrongCredentials({ identity }: Stage): Credential[] {
  const holder = "nobody";
  return [
    { holder, kind: "model-key", value: randomUUID() },
    { holder, kind: "telegram-token", value: "4242:no-such-token" },
    { holder, kind: "vault-identity", value: identity.issue(randomUUID(), "https://vault.azure.net") },
    { holder, kind: "arm-identity", value: identity.issue(randomUUID(), "https://management.azure.com") },
  ];
}

test("three tenants on two stamps", async (t) => {
  const stage = await openStage(t);
  await t.test(
    "a runtime is given its own state, its own identity and the right to its own secrets, and nothing more (F93–F95)",
    () => assertOwnOnly(stage),
  );
  await t.test("an unknown tenant and a wrong credential get the same answer (F93)", () => assertSameAnswer(stage));
  await t.test("no runtime's identity, token or secret opens anything but its own door (F92–F94)", (each) =>
    assertDoors(each, stage),
  );
});

async function assertOwnOnly({ arm, tenants }: Stage): Promise<void> {
  for (const { id, stamp, principalId, slug } of tenants) {
    const app = arm.state.apps().find(({ name }) => name === runtimeName(id));
    assert.ok(app);
    const { containers = [], initContainers = [], volumes = [] } = app.template;
    const shares = volumes.filter(({ storageType }) => storageType === "NfsAzureFile").map(({ name }) => name);
    const mounts = [...containers, ...initContainers].flatMap(({ volumeMounts = [] }) => volumeMounts);
    assert.deepEqual(
      mounts.filter(({ volumeName }) => shares.includes(volumeName)).map(({ subPath }) => subPath),
      [`tenants/${id}`],
      slug,
    );
    assert.deepEqual(
      volumes.filter(({ storageType }) => storageType !== "NfsAzureFile").map(({ storageType }) => storageType),
      ["Secret"],
    );
    assert.deepEqual(
      app.identities.map((identity) => identity.slice(identity.lastIndexOf("/") + 1)).toSorted(),
      [runtimeName(id), PULL_IDENTITY].toSorted(),
    );
    assert.ok(app.configuration.identitySettings?.every(({ lifecycle }) => lifecycle === "None"));
    const wanted = TENANT_SECRETS.map((secret) => secretScope(stamp, tenantSecretName(id, secret, 1)));
    const given = arm.calls.flatMap(({ method, path, body }) => {
      const { properties } = (body ?? {}) as { properties?: { principalId?: string; roleDefinitionId?: string } };
      const isRole = method === "PUT" && path.includes("/Microsoft.Authorization/roleAssignments/");
      return isRole && properties?.principalId === principalId ? [{ path, role: properties.roleDefinitionId }] : [];
    });
    assert.deepEqual(
      given.map(({ path }) => path.slice(0, path.lastIndexOf("/providers/"))).toSorted(),
      wanted.toSorted(),
    );
    for (const { role } of given) assert.equal(role, secretsUserRoleId(stamp));
  }
  // Nobody else was ever given anything: not the identity that pulls, not all runtimes at once.
  const assigned = arm.calls.filter(({ method, path }) => method === "PUT" && path.includes("/roleAssignments/"));
  assert.equal(assigned.length, tenants.length * TENANT_SECRETS.length);
}

async function assertSameAnswer(stage: Stage): Promise<void> {
  const [alice] = stage.tenants;
  assert.ok(alice);
  const known = gatewayDoors(stage, alice);
  const unknown = gatewayDoors(stage, { slug: alice.slug, id: randomUUID() as TenantId });
  const nonsense = gatewayDoors(stage, { slug: alice.slug, id: "not-an-id" as TenantId });
  const others = stage.tenants.slice(1).flatMap((tenant) => credentialsOf(stage, tenant));
  for (const [index, door] of known.entries()) {
    const wanted = await answerOf(door, "wrong");
    assert.equal(wanted.status, 401, door.name);
    for (const { value, kind } of others)
      assert.deepEqual(await answerOf(door, value), wanted, `${kind}, ${door.name}`);
    for (const { value, kind } of [...credentialsOf(stage, alice), ...others])
      for (const other of [unknown[index], nonsense[index]])
        assert.deepEqual(other && (await answerOf(other, value)), wanted, `${kind}, ${door.name}`);
  }
}

/** Without what is another for each request. */
async function answerOf(door: Door, credential: string): Promise<{ status: number; text: string }> {
  const { status, text } = await door.knock(credential);
  return { status, text: text.replaceAll(/"(request_?id|requestId)":"[^"]*"/gi, "") };
}

async function assertDoors(t: TestContext, stage: Stage): Promise<void> {
  const { tenants, arm, vaults, telegram } = stage;
  const operators: Credential[] = [
    { holder: "control plane", kind: "metrics-token", value: METRICS_TOKEN },
    { holder: "control plane", kind: "telegram-secret", value: TELEGRAM_SECRET },
    { holder: "control plane", kind: "stripe-secret", value: STRIPE_SECRET },
  ];
  const credentials = [
    ...tenants.flatMap((tenant) => credentialsOf(stage, tenant)),
    ...wrongCredentials(stage),
    ...operators,
  ];
  const doors = [
    ...tenants.flatMap((tenant) => [
      ...gatewayDoors(stage, tenant),
      webhookDoor(tenant),
      ...vaultDoors(tenant),
      ...armDoors(stage, tenant),
    ]),
    ...controlPlaneDoors(stage),
  ];
  const values = () => vaults.map((vault) => vault.values());
  const [secrets, resources] = [values(), resourcesOf(stage)];
  const opened = await openedBy(doors, credentials);
  assert.deepEqual(opened, expectedOf(doors, credentials));
  // Bot API, file, model (twice), webhook and four secrets of each, and three of the control plane.
  assert.equal(opened.length, tenants.length * 9 + operators.length);
  t.diagnostic(`${credentials.length} credentials at ${doors.length} doors`);
  assert.deepEqual(values(), secrets);
  assert.deepEqual(resourcesOf(stage), resources);
  for (const { params } of telegram.calls) assert.ok(!JSON.stringify(params).includes("no-such-token"));
  assert.deepEqual(arm.violations, []);
  // These doors are real: the control plane finds them open.
  const looking = tenants
    .flatMap((tenant) => [...armDoors(stage, tenant), ...vaultDoors(tenant)])
    .filter(({ name }) => /^GET |listSecrets/.test(name));
  const found = await openedBy(looking, controlPlaneCredentials(stage));
  assert.equal(found.length, looking.length, found.join("\n"));
}

function resourcesOf({ arm }: Stage): unknown {
  const executions = arm.state.jobs().map((job) => job.executions.size);
  return [arm.state.apps(), arm.state.identities(), arm.state.roleAssignments(), executions];
}
