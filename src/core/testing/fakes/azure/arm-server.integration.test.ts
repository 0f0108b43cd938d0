import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test, type TestContext } from "node:test";
import { DefaultAzureCredential } from "@azure/identity";
import { request } from "undici";
import { armClients, all, callArm, FAST, ownToken, prepareApp, setUpArm, withCode } from "./arm/test-setup.ts";

const VERSION = "api-version=2024-11-30";

async function setUp(t: TestContext) {
  const bench = await setUpArm(t);
  const { identities } = bench.clients;
  const path = `/subscriptions/${bench.stamp.subscriptionId}/resourceGroups/${bench.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/acme`;
  const make = () => identities.userAssignedIdentities.createOrUpdate(bench.group, "acme", { location: "westeurope" });
  const names = () => bench.arm.state.identities().map(({ name }) => name);
  return { ...bench, path, make, names };
}

test("only a token for ARM opens it", async (t) => {
  const { azure, arm, path } = await setUp(t);
  for (const token of ["unknown", azure.identity.issue("me", "https://vault.azure.net")])
    assert.equal(
      (await callArm(azure, "GET", `${path}?${VERSION}`, { token })).body.error?.code,
      "AuthenticationFailed",
    );
  assert.equal(arm.calls.at(-1)?.principalId, undefined);
});

test("a principal may do what its roles let it, where they hold, and is told nothing else", async (t) => {
  const { azure, clients, make, path, stamp } = await setUp(t);
  const { principalId = "" } = await make();
  const token = azure.identity.issue(principalId, "https://management.azure.com");
  const doors = {
    read: ["GET", path],
    write: ["PUT", path],
    "read what is not there": ["GET", `${path}-not`],
    "read another group": ["GET", path.replace("openclaw-1", "openclaw-2")],
    "give rights": ["PUT", `${path}/providers/Microsoft.Authorization/roleAssignments/x`],
  } as const;
  const open = async () => {
    const found: string[] = [];
    for (const [name, [method, at]] of Object.entries(doors)) {
      const { body } = await callArm(azure, method, `${at}?${VERSION}`, { token, body: {} });
      if (body.error?.code !== "AuthorizationFailed") found.push(name);
    }
    return found;
  };
  assert.deepEqual(await open(), []);
  const group = `/subscriptions/${stamp.subscriptionId}/resourceGroups/${stamp.resourceGroup}`;
  const give = (role: string) =>
    clients.roles.roleAssignments.create(group, randomUUID(), {
      roleDefinitionId: `/subscriptions/${stamp.subscriptionId}/providers/Microsoft.Authorization/roleDefinitions/${role}`,
      principalId,
      principalType: "ServicePrincipal",
    });
  await give("4633458b-17de-408a-b874-0445c86b69e6");
  assert.deepEqual(await open(), [], "secrets are none of ARM's business");
  await give("acdd72a7-3385-48ef-bd42-f606fba81ae7");
  assert.deepEqual(await open(), ["read", "read what is not there"]);
  await give("b24988ac-6180-42a0-ab88-20f7382dd24c");
  assert.deepEqual(await open(), ["read", "write", "read what is not there"]);
  await give("8e3af657-a8ff-443c-a75c-2fe8c4757635");
  assert.deepEqual(await open(), ["read", "write", "read what is not there", "give rights"]);
});

test("a credential as the control plane has one gets a token that opens it", async (t) => {
  const { azure } = await setUp(t);
  const { IDENTITY_ENDPOINT, IDENTITY_HEADER } = azure.identity.env;
  Object.assign(process.env, { IDENTITY_ENDPOINT, IDENTITY_HEADER });
  t.after(() => {
    delete process.env["IDENTITY_ENDPOINT"];
    delete process.env["IDENTITY_HEADER"];
  });
  const { token } = await new DefaultAzureCredential().getToken("https://management.azure.com/.default");
  assert.equal(azure.identity.holderOf(token)?.audience, "https://management.azure.com");
});

test("the version that is pinned is the only one, and what isn't described is a violation", async (t) => {
  const { azure, arm, path } = await setUp(t);
  const code = async (query: string, body?: unknown) =>
    (await callArm(azure, body === undefined ? "GET" : "PUT", `${path}${query}`, { body })).body.error?.code;
  assert.equal(await code(""), "MissingApiVersionParameter");
  assert.equal(await code("?api-version=2023-01-31"), "InvalidApiVersionParameter");
  assert.equal(await code(`/federated?${VERSION}`), "InvalidResourceType");
  assert.equal(await code(`?${VERSION}`, { location: "westeurope", name: "acme" }), "InvalidRequestContent");
  assert.equal(await code(`?${VERSION}`, { tags: {} }), "InvalidRequestContent");
  assert.equal(arm.violations.length, 5);
  assert.match(arm.violations.at(-1) ?? "", /^PUT \/subscriptions.*: location: /);
});

test("another subscription or resource group isn't there", async (t) => {
  const { azure, path } = await setUp(t);
  const code = async (changed: string) => (await callArm(azure, "GET", `${changed}?${VERSION}`)).body.error?.code;
  assert.equal(await code(path.replace("000000000001", "000000000009")), "SubscriptionNotFound");
  assert.equal(await code(path.replace("openclaw-1", "other")), "ResourceGroupNotFound");
});

test("faults meet the calls that they are meant for, once done and once not", async (t) => {
  const { azure, arm, make, names, path } = await setUp(t);
  arm.failNext(`PUT ${path}`, "reset");
  await assert.rejects(make());
  assert.ok(!names().includes("acme"));
  arm.failNext(({ method }) => method === "PUT", "lost");
  await assert.rejects(make());
  assert.ok(names().includes("acme"));
  arm.failNext("PUT /subscriptions", { status: 429, code: "TooManyRequests", retryAfter: 7 }, 2);
  await assert.rejects(make(), withCode("TooManyRequests", 429));
  const limited = await callArm(azure, "PUT", `${path}?${VERSION}`, { body: {} });
  assert.equal(limited.headers["retry-after"], "7");
  arm.failNext("PUT", { status: 409, code: "ContainerAppLockConflict", envelope: false });
  assert.equal((await callArm(azure, "PUT", `${path}?${VERSION}`, { body: {} })).body.code, "ContainerAppLockConflict");
  await make();
  assert.deepEqual(
    arm.calls
      .filter(({ method }) => method === "PUT")
      .map(({ status, fault }) => [status, typeof fault === "object" ? fault.code : fault]),
    [
      [0, "reset"],
      [0, "lost"],
      [429, "TooManyRequests"],
      [429, "TooManyRequests"],
      [409, "ContainerAppLockConflict"],
      [200, undefined],
    ],
  );
  assert.deepEqual(arm.violations, []);
});

test("the n-th call fails, whatever it is, and one that hangs is given up by its caller", async (t) => {
  const { azure, arm, make, path } = await setUp(t);
  arm.failNth(2, { status: 500, code: "InternalServerError" });
  await make();
  assert.equal((await callArm(azure, "GET", `${path}?${VERSION}`)).status, 500);
  assert.equal((await callArm(azure, "GET", `${path}?${VERSION}`)).status, 200);
  arm.failNext("GET", "hang");
  const token = ownToken(azure.identity, "https://management.azure.com");
  const hanging = request(`${arm.url}${path}?${VERSION}`, {
    headers: { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(50),
  });
  await assert.rejects(hanging, { name: "TimeoutError" });
});

test("calls beyond a limit are told how long to wait", async (t) => {
  const { azure, arm, path } = await setUp(t);
  arm.limit(2, 60_000);
  const get = () => callArm(azure, "GET", `${path}?${VERSION}`);
  assert.deepEqual([(await get()).status, (await get()).status], [404, 404]);
  const { status, headers } = await get();
  assert.equal(status, 429);
  assert.ok(Number(headers["retry-after"]) > 50);
});

test("two stamps in two subscriptions live side by side", async (t) => {
  const bench = await setUpArm(t, { stampCount: 2 });
  const { azure, arm } = bench;
  for (const stamp of azure.stamps) {
    const clients = armClients(azure, stamp);
    const { app } = await prepareApp(azure, clients, "acme", stamp);
    const made = await clients.containers.containerApps.createOrUpdate(stamp.resourceGroup, "acme", app, FAST);
    assert.equal(made.latestReadyRevisionName, "acme--one");
    assert.equal((await all(clients.containers.containerApps.listBySubscription())).length, 1);
  }
  assert.equal(arm.state.apps().length, 2);
  assert.deepEqual(arm.violations, []);
});

test("five hundred apps fit in, and somebody else's among them is left alone", async (t) => {
  const { azure, arm, clients, group } = await setUpArm(t, { pageSize: 100 });
  const { app } = await prepareApp(azure, clients, "acme");
  await arm.seed.app("somebody-elses");
  const names = Array.from({ length: 500 }, (_, index) => `tenant-${index}`);
  const [container] = app.template?.containers ?? [];
  // Without state: there are folders for none of them.
  const template = { ...app.template, containers: [{ ...container, volumeMounts: [] }] };
  for (const name of names)
    await clients.containers.containerApps.createOrUpdate(group, name, { ...app, template }, FAST);
  const listed = await all(clients.containers.containerApps.listByResourceGroup(group));
  assert.equal(listed.length, 501);
  const ready = listed.filter(
    ({ latestReadyRevisionName, latestRevisionName }) => latestReadyRevisionName === latestRevisionName,
  );
  assert.equal(ready.length, 501);
  assert.equal(listed.find(({ name }) => name === "somebody-elses")?.tags?.["tenant"], undefined);
});
