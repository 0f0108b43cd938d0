import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { request } from "undici";
import { DeferredError } from "../../../platform/errors.ts";
import type { StampId, TenantId } from "../../../platform/ids.ts";
import { roomOf } from "../../../platform/stamps.ts";
import { armClients } from "../../../testing/fakes/azure/arm/test-setup.ts";
import type { ArmServer } from "../../../testing/fakes/azure/arm-server.ts";
import { runtimeDriverContract, someTenantId, until, untilState } from "../contract.ts";
import { readBudgets } from "./arm-budget.ts";
import { runtimeName, STATE_SHARE } from "./names.ts";
import { setUpAzure } from "./test-setup.ts";

runtimeDriverContract("azure", async (t: TestContext) => {
  const bench = await setUpAzure(t);
  const open = () => {
    const driver = bench.openDriver();
    return {
      ...driver,
      ensure: async (...[spec, call]: Parameters<typeof driver.ensure>) => {
        await bench.seedSecrets(spec.tenantId);
        return driver.ensure(spec, call);
      },
    };
  };
  return {
    driver: open(),
    another: async () => open(),
    spec: bench.spec,
    image: (spec) => spec.image,
    running: async (tenantId) =>
      Object.entries(bench.arm.state.replicas())
        .filter(([name]) => name.startsWith(`${runtimeName(tenantId)}/`))
        .reduce((sum, [, replicas]) => sum + replicas, 0),
  };
});

test("what Azure is sent is valid against its public description", async (t) => {
  const { openDriver, seedSecrets, spec, arm } = await setUpAzure(t);
  const driver = openDriver();
  const tenantId = someTenantId();
  await seedSecrets(tenantId);
  await driver.ensure(spec(tenantId, 1));
  await untilState(driver, tenantId, "running");
  await driver.ensure(spec(tenantId, 2));
  await driver.sleep(tenantId);
  await driver.wake(tenantId);
  await driver.list();
  await driver.erase(tenantId);
  assert.deepEqual(arm.violations, []);
  assert.deepEqual(arm.state.apps(), []);
});

async function setUpRunning(t: TestContext) {
  const bench = await setUpAzure(t);
  const driver = bench.openDriver();
  const tenantId = someTenantId();
  await bench.seedSecrets(tenantId);
  await driver.ensure(bench.spec(tenantId, 1));
  await untilState(driver, tenantId, "running");
  const name = runtimeName(tenantId);
  const app = () => {
    const found = bench.arm.state.apps().find((one) => one.name === name);
    assert.ok(found);
    return found;
  };
  const specOf = (id: TenantId) => bench.spec(id, 1);
  return { ...bench, driver, tenantId, name, app, specOf, spec: bench.spec.bind(undefined, tenantId) };
}

test("secrets are references that the platform resolves with an identity that reads them alone, and the container can't use (F5, F93–F95)", async (t) => {
  const { app, arm, identity, tenantId, vaults } = await setUpRunning(t);
  const { configuration, template } = app();
  const inline = configuration.secrets?.filter(({ value }) => value !== undefined).map((secret) => secret.name) ?? [];
  assert.match(inline.join(), /^config-[0-9a-f]{10}$/);
  assert.equal(configuration.secrets?.filter(({ keyVaultUrl }) => keyVaultUrl?.includes(tenantId)).length, 4);
  assert.deepEqual(new Set(configuration.identitySettings?.map(({ lifecycle }) => lifecycle)), new Set(["None"]));
  const [own] = arm.state.identities().filter((one) => one.name === runtimeName(tenantId));
  assert.ok(own && vaults[0]);
  for (const secret of Object.keys(vaults[0].values())) assert.ok(arm.mayRead(own.principalId, secret));
  assert.equal(arm.mayRead(own.principalId, `tenant-${someTenantId()}-model-key`), false);
  assert.equal(template.containers?.[0]?.volumeMounts?.[0]?.subPath, `tenants/${tenantId}`);
  // Its identity can't even ask Azure what else there is.
  const { statusCode, body } = await request(`${arm.url}/subscriptions?api-version=2022-12-01`, {
    headers: { authorization: `Bearer ${identity.issue(own.principalId, "https://vault.azure.net")}` },
  });
  await body.dump();
  assert.equal(statusCode, 401);
});

const HANDS: Record<string, [word: string, change: Parameters<ArmServer["tamper"]>[1]]> = {
  image: ["image", ({ template }) => Object.assign(template.containers?.[0] ?? {}, { image: "somebody/else:1" })],
  "the number of replicas": [
    "scale",
    ({ template }) => Object.assign(template, { scale: { minReplicas: 2, maxReplicas: 9 } }),
  ],
  "a variable": ["environment", ({ template }) => void template.containers?.[0]?.env?.push({ name: "X", value: "1" })],
  "an open door": ["ingress", ({ configuration }) => Object.assign(configuration.ingress ?? {}, { external: true })],
  "a secret": ["secrets", ({ configuration }) => void configuration.secrets?.pop()],
};
for (const [what, [word, change]] of Object.entries(HANDS)) {
  test(`${what} changed by somebody else's hand is seen in a list and mended, with one replica at any time (F42)`, async (t) => {
    const { arm, driver, tenantId, name, spec, app } = await setUpRunning(t);
    arm.tamper(name, change);
    const [seen] = await driver.list();
    assert.ok(seen?.drift.includes(word), `${seen?.drift.join()} has ${word}`);
    await driver.ensure(spec(1));
    const mended = await untilState(driver, tenantId, "running");
    assert.deepEqual(mended.drift, []);
    assert.equal(mended.specHash, spec(1).hash);
    assert.equal(app().revisions.filter(({ running }) => running > 0).length, 1);
  });
}

test("an old revision that somebody starts beside ours is stopped", async (t) => {
  const { arm, driver, tenantId, name, spec, app } = await setUpRunning(t);
  await driver.ensure(spec(2));
  await untilState(driver, tenantId, "running");
  arm.tamper(name, ({ revisions }) => revisions.forEach((revision) => (revision.active = true)));
  await driver.ensure(spec(2));
  assert.deepEqual(
    app()
      .revisions.filter(({ active }) => active)
      .map((revision) => revision.name),
    [app().latestRevisionName],
  );
});

test("what has our name and not our mark is left alone, and said so (F43)", async (t) => {
  const bench = await setUpAzure(t);
  const driver = bench.openDriver();
  const tenantId = someTenantId();
  await bench.arm.seed.app(runtimeName(tenantId), { tags: { "openclaw-tenant": tenantId } });
  await bench.seedSecrets(tenantId);
  for (const attempt of [
    () => driver.ensure(bench.spec(tenantId, 1)),
    () => driver.remove(tenantId),
    () => driver.erase(tenantId),
  ])
    await assert.rejects(attempt(), { code: "foreign_resource" });
  assert.deepEqual(await driver.list(), []);
  assert.equal(bench.arm.state.apps().length, 1);
});

test("the environment's storage that leads elsewhere is left alone: what mounts it would come up with another state (F31, F43)", async (t) => {
  const bench = await setUpAzure(t);
  const [stamp] = bench.stamps;
  assert.ok(stamp);
  const { containers } = armClients({ ...bench, vaults: [...bench.vaults], stamps: [...bench.stamps] });
  const environment = stamp.environmentId.slice(stamp.environmentId.lastIndexOf("/") + 1);
  const storages = containers.managedEnvironmentsStorages;
  const nfsAzureFile = { server: "others.file.core.windows.net", shareName: "/others/state", accessMode: "ReadWrite" };
  await storages.createOrUpdate(stamp.resourceGroup, environment, STATE_SHARE, { properties: { nfsAzureFile } });
  const tenantId = someTenantId();
  await bench.seedSecrets(tenantId);
  const refused = { code: "foreign_resource", message: /leads to others\.file\.core\.windows\.net\/others\/state/ };
  await assert.rejects(bench.openDriver().ensure(bench.spec(tenantId, 1)), refused);
  const found = await storages.get(stamp.resourceGroup, environment, STATE_SHARE);
  assert.equal(found.properties?.nfsAzureFile?.server, nfsAzureFile.server);
});

test("a list asks for pages, never for one runtime, and finds what nobody remembers (F43)", async (t) => {
  const { arm, driver, database, tenantId, seedSecrets, openDriver, specOf } = await setUpRunning(t);
  const lost = someTenantId();
  await seedSecrets(lost);
  await driver.remove(tenantId);
  await openDriver().ensure(specOf(lost));
  await database.db.deleteFrom("azureRuntimes").where("tenantId", "=", lost).execute();
  const before = arm.calls.length;
  const [orphan, ...more] = await driver.list({ urgency: "sweep" });
  assert.equal(orphan?.tenantId, lost);
  assert.deepEqual(more, []);
  const asked = arm.calls.slice(before).map(({ method, path }) => `${method} ${path.slice(path.lastIndexOf("/") + 1)}`);
  assert.deepEqual(new Set(asked), new Set(["GET containerApps"]));
  await driver.erase(lost);
  assert.deepEqual(arm.state.apps(), []);
});

test("an image that isn't there is a failure with its reason, and going back to the last one works (F32, F33, F35)", async (t) => {
  const { arm, driver, tenantId, spec } = await setUpRunning(t);
  arm.seed.images(spec(1).image);
  await driver.ensure(spec(2));
  const failed = await driver.inspect(tenantId);
  assert.equal(failed.state, "failed");
  assert.match(failed.reason ?? "", /image|start/i);
  await driver.ensure(spec(1));
  assert.equal((await untilState(driver, tenantId, "running")).specHash, spec(1).hash);
});

test("keys of a former generation can't be read any more once the new ones are in use (F98)", async (t) => {
  const { arm, driver, tenantId, spec, vault } = await setUpRunning(t);
  const [own] = arm.state.identities().filter((one) => one.name === runtimeName(tenantId));
  assert.ok(own);
  const next = Object.fromEntries(Object.entries(spec(1).secrets).map(([variable, name]) => [variable, `${name}-g2`]));
  for (const name of Object.values(next)) await vault.set(name, "new");
  await driver.ensure(spec(1, { secrets: next }));
  await untilState(driver, tenantId, "running");
  for (const name of Object.values(next)) assert.ok(arm.mayRead(own.principalId, name));
  for (const name of Object.values(spec(1).secrets)) assert.equal(arm.mayRead(own.principalId, name), false);
});

test("a rollout that has stopped a runtime no longer waits behind all others until the next one runs", async (t) => {
  const { database, driver, tenantId, spec } = await setUpRunning(t);
  const spent = async () => (await readBudgets(database.pool, 1_000_000))[0]?.spent;
  const before = await spent();
  await driver.ensure(spec(2), { urgency: "rollout" });
  const after = await spent();
  assert.ok(before && after && after.rollout > before.rollout && after.repair > before.repair);
  await untilState(driver, tenantId, "running");
  await driver.sleep(tenantId);
  const asleep = await spent();
  await driver.wake(tenantId, { urgency: "rollout" });
  assert.ok(asleep && ((await spent())?.repair ?? 0) > asleep.repair);
});

test("a lock keeps what it locks, says which, and what was half removed is removed once it is gone (F43, F44)", async (t) => {
  const { arm, driver, tenantId, app } = await setUpRunning(t);
  const { id } = app();
  arm.lock(id);
  await assert.rejects(driver.remove(tenantId), /lock/i);
  assert.notEqual((await driver.inspect(tenantId)).state, "absent");
  arm.unlock(id);
  await driver.remove(tenantId);
  assert.equal((await driver.inspect(tenantId)).state, "absent");
  assert.deepEqual(
    arm.state.roleAssignments().filter(({ scope }) => scope.includes(tenantId)),
    [],
  );
});

test("Azure that spreads, works and drains slowly is waited out, and its deferrals say why (F36, F50)", async (t) => {
  const bench = await setUpAzure(t);
  const { arm } = bench;
  Object.assign(arm.settle, {
    operationPolls: 3,
    deletePolls: 2,
    principalReplication: 1,
    rolePropagation: 2,
    zeroReplicaReads: 3,
    healthReads: 2,
  });
  const driver = bench.openDriver();
  const tenantId = someTenantId();
  await bench.seedSecrets(tenantId);
  const reasons: string[] = [];
  const insist = async (work: () => Promise<unknown>) =>
    until(async () => {
      try {
        await work();
        return true;
      } catch (error) {
        assert.ok(error instanceof DeferredError, String(error));
        reasons.push(error.message);
        return undefined;
      }
    }, "it to be done");
  await insist(() => driver.ensure(bench.spec(tenantId, 1)));
  await untilState(driver, tenantId, "running");
  await insist(() => driver.ensure(bench.spec(tenantId, 2)));
  await untilState(driver, tenantId, "running");
  await insist(() => driver.sleep(tenantId));
  await insist(() => driver.erase(tenantId));
  assert.match(reasons.join(), /not in force yet/);
  assert.deepEqual(
    [arm.state.apps(), arm.state.roleAssignments().filter(({ scope }) => scope.includes(tenantId))],
    [[], []],
  );
  assert.deepEqual(arm.violations, []);
});

test("two stamps have their own share, vault and subscription, and a stamp that is full holds what comes (F32)", async (t) => {
  const bench = await setUpAzure(t);
  const [, second] = bench.stamps;
  assert.ok(second);
  const driver = bench.openDriver();
  const [one, two] = [someTenantId(), someTenantId()];
  await bench.seedSecrets(one);
  await bench.seedSecrets(two, second.id);
  await driver.ensure(bench.spec(one, 1));
  await driver.ensure(bench.spec(two, 1, { stampId: second.id, image: `${second.acrServer}/openclaw:1` }));
  await untilState(driver, two, "running");
  assert.deepEqual(
    new Set(bench.arm.state.apps().map(({ id }) => id.split("/")[2]?.toLowerCase())),
    new Set(bench.stamps.map(({ subscriptionId }) => subscriptionId)),
  );
  assert.equal(bench.arm.state.shares().length, 2);
  assert.equal((await driver.list()).length, 2);
  const room = roomOf(second, bench.stamps);
  await bench.database.db
    .insertInto("azureRuntimes")
    .values(
      Array.from({ length: room }, () => ({
        tenantId: someTenantId(),
        stampId: second.id,
        spec: "{}",
        desired: "asleep" as const,
        updatedAt: new Date(0),
      })),
    )
    .execute();
  const third = someTenantId();
  await bench.seedSecrets(third, second.id);
  await assert.rejects(driver.ensure(bench.spec(third, 1, { stampId: second.id })), { code: "stamp_full" });
  await assert.rejects(driver.ensure(bench.spec(someTenantId(), 1, { stampId: "nowhere" as StampId })), {
    code: "stamp_unknown",
  });
});
