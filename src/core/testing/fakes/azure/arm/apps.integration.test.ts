import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { ContainerApp } from "@azure/arm-appcontainers";
import { request } from "undici";
import { FAST, all, callArm, ownToken, prepareApp, setUpArm, withCode } from "./test-setup.ts";

const VERSION = "api-version=2025-07-01";

/** One app, made and read back, and short words for what is done to it. */
async function setUpApp(t: TestContext, change: (app: ContainerApp) => ContainerApp = (app) => app) {
  const bench = await setUpArm(t);
  const { azure, clients, group, stamp } = bench;
  const prepared = await prepareApp(azure, clients, "acme");
  const app = change(prepared.app);
  const { containerApps, containerAppsRevisions: revisions } = clients.containers;
  const put = (body = app) => containerApps.createOrUpdate(group, "acme", body, FAST);
  const made = await put();
  const path = `/subscriptions/${stamp.subscriptionId}/resourceGroups/${group}/providers/Microsoft.App/containerApps/acme`;
  return { ...bench, app, put, revisions, path, address: `https://${made.configuration?.ingress?.fqdn}`, made };
}

function withTemplate(app: ContainerApp, changes: ContainerApp["template"]): ContainerApp {
  return { ...app, template: { ...app.template, ...changes } };
}

test("a tenant's app is made, runs, sleeps, wakes and goes", async (t) => {
  const { arm, clients, group, revisions, address, made } = await setUpApp(t);
  assert.equal(made.provisioningState, "Succeeded");
  assert.equal(made.location, "West Europe");
  assert.match(made.id ?? "", /\/resourcegroups\/openclaw-1\/providers\/Microsoft.App\/containerapps\/acme$/);
  assert.equal(made.latestRevisionName, "acme--one");
  assert.equal(made.configuration?.ingress?.transport, "Http");

  const health = await request(`${address}/healthz`);
  assert.deepEqual([health.statusCode, await health.body.text()], [200, "ok"]);
  const post = (secret: string) =>
    request(`${address}/telegram-webhook`, {
      method: "POST",
      headers: { "x-telegram-bot-api-secret-token": secret },
      body: JSON.stringify({ update_id: 1 }),
    });
  assert.equal((await post("s3cret")).headers["x-openclaw-delivery-accepted"], "durable");
  assert.equal((await post("another")).statusCode, 401);
  assert.deepEqual(
    arm.deliveries.map(({ app, body }) => [app, body]),
    [["acme", { update_id: 1 }]],
  );

  const [revision] = await all(revisions.listRevisions(group, "acme"));
  assert.deepEqual([revision?.runningState, revision?.replicas], ["RunningAtMaxScale", 1]);
  await revisions.deactivateRevision(group, "acme", "acme--one");
  assert.equal((await revisions.getRevision(group, "acme", "acme--one")).replicas, 0);
  assert.equal((await request(`${address}/healthz`)).statusCode, 404);
  assert.equal((await clients.containers.containerApps.get(group, "acme")).runningStatus, "Stopped");
  await revisions.activateRevision(group, "acme", "acme--one");
  assert.equal((await request(`${address}/healthz`)).statusCode, 200);

  await clients.containers.containerApps.delete(group, "acme", FAST);
  await assert.rejects(clients.containers.containerApps.get(group, "acme"), withCode("ResourceNotFound", 404));
  await assert.rejects(request(`${address}/healthz`));
  assert.deepEqual(arm.violations, []);
});

test("what is in the requested state already is refused (F38)", async (t) => {
  const { revisions, group } = await setUpApp(t);
  await assert.rejects(revisions.activateRevision(group, "acme", "acme--one"), (error: Error) => {
    assert.match(error.message, /already in requested state/);
    return true;
  });
});

test("a write begins an operation that is followed at long addresses, and refuses the next one until it ended", async (t) => {
  const { azure, arm, clients, group, path, revisions } = await setUpApp(t);
  arm.settle.operationPolls = 3;
  const tags = { tags: { tenant: "acme", colour: "red" } };
  const patched = await callArm(azure, "PATCH", `${path}?${VERSION}`, { body: tags });
  assert.deepEqual([patched.status, patched.text, patched.headers["retry-after"]], [202, "", "0"]);
  for (const name of ["azure-asyncoperation", "location"])
    assert.ok(String(patched.headers[name]).length > 3_000, `${name} is long`);
  assert.ok(patched.headers["x-ms-correlation-request-id"]);
  assert.ok(patched.headers["x-ms-ratelimit-remaining-subscription-writes"]);
  const follow = async (name: string) => callArm(azure, "GET", String(patched.headers[name]).slice(arm.url.length));
  assert.equal((await follow("location")).status, 202);
  assert.equal(
    (await callArm(azure, "PUT", `${path}?${VERSION}`, { body: { location: "westeurope" } })).body.error?.code,
    "ContainerAppOperationInProgress",
  );
  await assert.rejects(
    revisions.deactivateRevision(group, "acme", "acme--one"),
    withCode("ContainerAppOperationInProgress", 409),
  );
  const { body } = await follow("azure-asyncoperation");
  assert.equal((body as { status?: string }).status, "Succeeded");
  assert.equal((await follow("location")).status, 200);
  assert.deepEqual((await clients.containers.containerApps.get(group, "acme")).tags, tags.tags);
});

test("only another template makes a revision, which is active beside the others (F39)", async (t) => {
  const { arm, app, put, path, group, revisions } = await setUpApp(t);
  const names = async () =>
    (await all(revisions.listRevisions(group, "acme"))).map(({ name, active }) => [name, active]);
  await put();
  await put({ ...app, tags: { tenant: "acme", colour: "red" } });
  await put({ ...app, configuration: { ...app.configuration, maxInactiveRevisions: 5 } });
  assert.deepEqual(await names(), [["acme--one", true]]);
  assert.equal(arm.calls.filter(({ method, path: one }) => method === "PUT" && one === path).at(-1)?.status, 201);

  await revisions.deactivateRevision(group, "acme", "acme--one");
  await put(withTemplate(app, { revisionSuffix: "two" }));
  assert.deepEqual(await names(), [
    ["acme--one", false],
    ["acme--two", true],
  ]);
  await put(withTemplate(app, { revisionSuffix: "", terminationGracePeriodSeconds: 60 }));
  assert.equal((await names()).length, 3);
});

test("nothing changes for a body that says what is there already", async (t) => {
  const { arm, put, path } = await setUpApp(t);
  await put();
  assert.deepEqual(
    arm.calls.filter(({ method, path: one }) => method === "PUT" && one === path).map(({ status }) => status),
    [201, 200],
  );
});

test("a used revision suffix can't be used again, and a long one never (F35)", async (t) => {
  const { app, put, clients, group, revisions } = await setUpApp(t);
  await revisions.deactivateRevision(group, "acme", "acme--one");
  await put(withTemplate(app, { revisionSuffix: "two" }));
  await assert.rejects(put(), /revision with suffix one already exists/);
  await assert.rejects(put(withTemplate(app, { revisionSuffix: "x".repeat(60) })), /longer than 63/);
  // A patch is accepted first.
  const patched = clients.containers.containerApps.update(group, "acme", { ...app, location: "westeurope" }, FAST);
  await assert.rejects(patched, /revision with suffix one already exists/);
  const { provisioningState, latestRevisionName } = await clients.containers.containerApps.get(group, "acme");
  assert.deepEqual([provisioningState, latestRevisionName], ["Failed", "acme--two"]);
});

test("a single revision at a time goes on until the next one is ready", async (t) => {
  const single = (app: ContainerApp): ContainerApp => ({
    ...app,
    configuration: { ...app.configuration, activeRevisionsMode: "Single" },
  });
  const { arm, app, put, group, revisions } = await setUpApp(t, single);
  arm.settle.healthReads = 3;
  await put(withTemplate(app, { revisionSuffix: "two" }));
  const active = async () =>
    (await all(revisions.listRevisions(group, "acme"))).filter((one) => one.active).map(({ name }) => name);
  assert.deepEqual(await active(), ["acme--one", "acme--two"]);
  await active();
  assert.deepEqual(await active(), ["acme--two"]);
});

test("secrets are never shown, and come from the vault as the identity that may read them (F94, F95)", async (t) => {
  const { azure, arm, clients, group, made, app, put, stamp } = await setUpApp(t);
  const [secret] = made.configuration?.secrets ?? [];
  assert.deepEqual([secret?.name, secret?.value], ["webhook", undefined]);
  const { value } = await clients.containers.containerApps.listSecrets(group, "acme");
  assert.deepEqual(
    value?.map((one) => [one.name, one.value]),
    [["webhook", "s3cret"]],
  );
  const [owner] = arm.state.identities().filter(({ name }) => name === "acme");
  assert.equal(arm.mayRead(owner?.principalId ?? "", "acme-webhook"), true);
  assert.equal(arm.mayRead(owner?.principalId ?? "", "other-webhook"), false);
  const unreadable = (name: string, identity: string) =>
    put({
      ...app,
      configuration: {
        ...app.configuration,
        secrets: [{ name: "webhook", keyVaultUrl: `${stamp.vaultUrl}/secrets/${name}`, identity }],
      },
    });
  const identity = Object.keys(app.identity?.userAssignedIdentities ?? {})[0] ?? "";
  await assert.rejects(
    unreadable("other-webhook", identity),
    withCode("InvalidParameterValueInContainerTemplate", 400),
  );
  await assert.rejects(unreadable("acme-webhook", `${identity}-other`), /Unable to get value using Managed identity/);
  const { body } = await callArm(azure, "GET", `${owner?.id}?api-version=2024-11-30`);
  assert.match((body as { id?: string }).id ?? "", /\/resourcegroups\//);
});

test("a role takes its time until it is in force (F50)", async (t) => {
  const { azure, arm, clients, group } = await setUpArm(t);
  arm.settle.rolePropagation = 2;
  const { app, owner } = await prepareApp(azure, clients, "acme");
  const put = () => clients.containers.containerApps.createOrUpdate(group, "acme", app, FAST);
  assert.equal(arm.mayRead(owner.principalId ?? "", "acme-webhook"), false);
  for (const _ of [1, 2]) await assert.rejects(put(), withCode("InvalidParameterValueInContainerTemplate", 400));
  await put();
  assert.equal(arm.mayRead(owner.principalId ?? "", "acme-webhook"), true);
});

test("an app that refers to what isn't there is refused (F31)", async (t) => {
  const { app, put, clients, group } = await setUpApp(t);
  const [container] = app.template?.containers ?? [];
  const volumes = [{ name: "state", storageType: "NfsAzureFile", storageName: "absent" }];
  await assert.rejects(put(withTemplate(app, { volumes })), /managed environment storage was not found/);
  const env = [{ name: "TOKEN", secretRef: "absent" }];
  await assert.rejects(put(withTemplate(app, { containers: [{ ...container, env }] })), /SecretRef 'absent'/);
  const resources = { cpu: 1, memory: "1Gi" };
  await assert.rejects(
    put(withTemplate(app, { containers: [{ ...container, resources }] })),
    withCode("ContainerAppInvalidResourceTotal"),
  );
  await assert.rejects(
    put({ ...app, environmentId: `${app.environmentId}-other` }),
    withCode("ManagedEnvironmentNotFound"),
  );
  await assert.rejects(put({ ...app, location: "northeurope" }), withCode("LocationNotAvailableForResourceType"));
  const userAssignedIdentities = { [`${Object.keys(app.identity?.userAssignedIdentities ?? {})[0]}-other`]: {} };
  await assert.rejects(
    put({ ...app, identity: { type: "UserAssigned", userAssignedIdentities } }),
    withCode("FailedIdentityOperation"),
  );
  for (const name of ["Acme", "a", "1acme", "acme-", "ac--me", "a".repeat(33)])
    await assert.rejects(
      clients.containers.containerApps.createOrUpdate(group, name, app, FAST),
      withCode("ContainerAppInvalidName", 400),
    );
});

test("an image that can't be pulled fails the revision, not the app, until it can (F32, F33)", async (t) => {
  const { arm, app, put, group, revisions, address } = await setUpApp(t);
  await revisions.deactivateRevision(group, "acme", "acme--one");
  arm.seed.images("openclaw1.azurecr.io/openclaw:1");
  const [container] = app.template?.containers ?? [];
  const containers = [{ ...container, image: "openclaw1.azurecr.io/openclaw:2" }];
  const next = await put(withTemplate(app, { revisionSuffix: "two", containers }));
  assert.equal(next.provisioningState, "Succeeded");
  const failed = await revisions.getRevision(group, "acme", "acme--two");
  assert.deepEqual([failed.runningState, failed.healthState, failed.replicas], ["Failed", "Unhealthy", 0]);
  assert.equal(next.latestReadyRevisionName, "acme--one");
  assert.equal((await request(`${address}/healthz`)).statusCode, 503);
  arm.seed.images("openclaw1.azurecr.io/openclaw:2");
  assert.equal((await request(`${address}/healthz`)).statusCode, 200);
});

test("replicas take their time to become healthy, and to be gone", async (t) => {
  const { arm, group, revisions, address, clients } = await setUpApp(t);
  arm.settle.zeroReplicaReads = 2;
  arm.settle.healthReads = 2;
  const replicas = async () => (await revisions.getRevision(group, "acme", "acme--one")).replicas;
  await revisions.deactivateRevision(group, "acme", "acme--one");
  assert.deepEqual(arm.state.replicas(), { "acme/acme--one": 1 });
  assert.deepEqual([await replicas(), await replicas(), await replicas()], [1, 1, 0]);
  assert.deepEqual(arm.state.replicas(), { "acme/acme--one": 0 });
  await revisions.activateRevision(group, "acme", "acme--one");
  const { runningState, healthState } = await revisions.getRevision(group, "acme", "acme--one");
  assert.deepEqual([runningState, healthState], ["Processing", "None"]);
  assert.equal((await request(`${address}/healthz`)).statusCode, 503);
  assert.equal((await request(`${address}/healthz`)).statusCode, 200);
  arm.setHealth(({ tags }) => (tags["tenant"] === "acme" ? "unhealthy" : "healthy"));
  assert.equal((await request(`${address}/healthz`)).statusCode, 503);
  await clients.containers.containerApps.delete(group, "acme", FAST);
  assert.deepEqual(arm.violations, []);
});

test("a revision that is started before another on the same state is gone is noticed (F42)", async (t) => {
  const { arm, app, put, group, revisions } = await setUpApp(t);
  arm.settle.zeroReplicaReads = 1;
  await revisions.deactivateRevision(group, "acme", "acme--one");
  await put(withTemplate(app, { revisionSuffix: "two" }));
  assert.deepEqual(arm.violations, ["acme--two was started while acme--one still ran on the same state"]);
});

test("an operation that fails leaves the app failed, and the next write begins it anew", async (t) => {
  const { azure, arm, clients, group } = await setUpArm(t);
  const { app } = await prepareApp(azure, clients, "acme");
  const put = () => clients.containers.containerApps.createOrUpdate(group, "acme", app, FAST);
  arm.failNext("PUT /subscriptions", "operation-failed");
  await assert.rejects(put(), /Failed to provision on demand/);
  const broken = await clients.containers.containerApps.get(group, "acme");
  assert.deepEqual([broken.provisioningState, broken.latestReadyRevisionName], ["Failed", ""]);
  assert.deepEqual(arm.state.replicas(), { "acme/acme--one": 0 });
  await put();
  const { latestReadyRevisionName } = await clients.containers.containerApps.get(group, "acme");
  assert.equal(latestReadyRevisionName, "acme--one");
  arm.failNext("DELETE /subscriptions", "operation-failed");
  await assert.rejects(clients.containers.containerApps.delete(group, "acme", FAST));
  assert.equal((await clients.containers.containerApps.get(group, "acme")).provisioningState, "Failed");
  assert.deepEqual(arm.violations, []);
});

test("a locked app isn't deleted, a deletion takes its time, and an absent one is fine (F43)", async (t) => {
  const { azure, arm, path } = await setUpApp(t);
  const remove = () => callArm(azure, "DELETE", `${path}?${VERSION}`);
  arm.lock(path);
  const locked = await remove();
  assert.deepEqual([locked.status, locked.body.error?.code], [409, "ScopeLocked"]);
  arm.unlock(path);
  arm.settle.deletePolls = 2;
  const removed = await remove();
  assert.deepEqual([removed.status, removed.headers["azure-asyncoperation"]], [202, undefined]);
  const follow = async () =>
    (await callArm(azure, "GET", String(removed.headers["location"]).slice(arm.url.length))).status;
  assert.deepEqual([await follow(), (await remove()).status, await follow()], [202, 202, 204]);
  assert.equal((await remove()).status, 204);
});

test("somebody else's hand makes a revision of a changed template, switches others on, and is no violation", async (t) => {
  const { arm, group, revisions, clients } = await setUpApp(t);
  arm.tamper("acme", (app) => {
    const [container] = app.template.containers ?? [];
    if (container !== undefined) container.image = "docker.io/other:1";
    app.tags["tenant"] = "other";
  });
  const after = await clients.containers.containerApps.get(group, "acme");
  assert.notEqual(after.latestRevisionName, "acme--one");
  assert.equal(after.template?.containers?.[0]?.image, "docker.io/other:1");
  assert.equal((await all(revisions.listRevisions(group, "acme"))).filter(({ active }) => active).length, 2);
  arm.tamper("acme", (app) => {
    for (const revision of app.revisions) revision.active = false;
  });
  assert.equal((await clients.containers.containerApps.get(group, "acme")).runningStatus, "Stopped");
  assert.deepEqual(arm.violations, []);
});

test("a secret without a version is read again now and then, and its revision started anew", async (t) => {
  const { azure, arm, address, stamp } = await setUpApp(t);
  await request(`${stamp.vaultUrl}/secrets/acme-webhook?api-version=7.6`, {
    method: "PUT",
    headers: { authorization: `Bearer ${ownToken(azure.identity, "https://vault.azure.net")}` },
    body: JSON.stringify({ value: "n3w" }),
  });
  const post = async (secret: string) =>
    (
      await request(`${address}/telegram-webhook`, {
        method: "POST",
        headers: { "x-telegram-bot-api-secret-token": secret },
        body: "{}",
      })
    ).statusCode;
  assert.equal(await post("n3w"), 401);
  arm.reloadSecrets();
  assert.equal(await post("n3w"), 200);
});

test("plain HTTP is sent on to HTTPS (F2)", async (t) => {
  const { address } = await setUpApp(t);
  const { statusCode, headers } = await request(`${address.replace("https:", "http:")}/telegram-webhook`, {
    method: "POST",
  });
  assert.deepEqual([statusCode, headers["location"]], [301, `${address}/telegram-webhook`]);
});
