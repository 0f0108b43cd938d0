import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test, type TestContext } from "node:test";
import { request } from "undici";
import { startKeyVault } from "../key-vault.ts";
import { ACR_PULL, KEY_VAULT_SECRETS_USER } from "./role-assignments.ts";
import { all, prepareApp, setUpArm, withCode } from "./test-setup.ts";

const ROLES = "/subscriptions/00000000-0000-4000-8000-000000000001/providers/Microsoft.Authorization/roleDefinitions";
const SCOPE =
  "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/openclaw-1/providers/Microsoft.KeyVault/vaults/openclaw-vault-1/secrets/one";

async function setUp(t: TestContext) {
  const bench = await setUpArm(t);
  const { identities, roles } = bench.clients;
  const make = (name: string) =>
    identities.userAssignedIdentities.createOrUpdate(bench.group, name, {
      location: "westeurope",
      tags: { tenant: name },
    });
  const assign = (principalId: string | undefined, { name = "", role = KEY_VAULT_SECRETS_USER, scope = SCOPE } = {}) =>
    roles.roleAssignments.create(scope, name === "" ? randomUUID() : name, {
      roleDefinitionId: `${ROLES}/${role}`,
      principalId: principalId ?? "",
      principalType: "ServicePrincipal",
    });
  return { ...bench, make, assign, identities: identities.userAssignedIdentities, roles: roles.roleAssignments };
}

test("an identity has its principal at once, keeps it, and another one after it was made anew", async (t) => {
  const { make, identities, group } = await setUp(t);
  const made = await make("acme");
  assert.match(made.id ?? "", /\/resourcegroups\/openclaw-1\//);
  assert.equal((await make("acme")).principalId, made.principalId);
  assert.deepEqual((await identities.get(group, "ACME")).tags, { tenant: "acme" });
  await identities.delete(group, "acme");
  await identities.delete(group, "acme");
  await assert.rejects(identities.get(group, "acme"), withCode("ResourceNotFound", 404));
  assert.notEqual((await make("acme")).principalId, made.principalId);
});

test("a new principal isn't known everywhere at once (F50)", async (t) => {
  const { arm, make, assign } = await setUp(t);
  arm.settle.principalReplication = 2;
  const { principalId } = await make("acme");
  for (const _ of [1, 2]) await assert.rejects(assign(principalId), withCode("PrincipalNotFound", 400));
  assert.equal((await assign(principalId)).principalId, principalId);
  await assert.rejects(assign(randomUUID()), withCode("PrincipalNotFound", 400));
});

test("the same assignment again is fine, its twin and another principal are not (F29)", async (t) => {
  const { make, assign, roles } = await setUp(t);
  const [{ principalId }, other] = [await make("acme"), await make("other")];
  const name = randomUUID();
  const made = await assign(principalId, { name });
  assert.equal((await assign(principalId, { name })).id, made.id);
  await assert.rejects(assign(principalId), withCode("RoleAssignmentExists", 409));
  await assert.rejects(assign(other.principalId, { name }), withCode("RoleAssignmentUpdateNotPermitted", 400));
  await assert.rejects(assign(other.principalId, { name: "one" }), withCode("InvalidRoleAssignmentId", 400));
  await assign(principalId, { role: ACR_PULL });
  assert.equal((await roles.delete(SCOPE, name)).principalId, principalId);
  assert.equal((await roles.delete(SCOPE, name)).principalId, undefined);
  await assert.rejects(roles.get(SCOPE, name), withCode("RoleAssignmentNotFound", 404));
});

test("assignments are listed at, above and below a scope, and stay behind when their identity goes (F97)", async (t) => {
  const { make, assign, roles, identities, group } = await setUp(t);
  const { principalId = "" } = await make("acme");
  const vault = SCOPE.replace("/secrets/one", "");
  await assign(principalId);
  await assign(principalId, { scope: vault });
  await identities.delete(group, "acme");
  const scopes = async (found: ReturnType<typeof roles.listForScope>) => (await all(found)).map(({ scope }) => scope);
  assert.deepEqual(new Set(await scopes(roles.listForScope(SCOPE))), new Set([vault, SCOPE]));
  assert.deepEqual(await scopes(roles.listForScope(vault, { filter: "atScope()" })), [vault]);
  assert.equal((await scopes(roles.listForScope(vault))).length, 2);
  const filter = `principalId eq '${principalId}'`;
  assert.equal((await scopes(roles.listForSubscription({ filter }))).length, 2);
  assert.equal((await scopes(roles.listForResourceGroup(group))).length, 3);
});

test("lists come page by page, and lose nothing that goes or comes meanwhile", async (t) => {
  const bench = await setUpArm(t, { pageSize: 3 });
  const { arm, clients, group } = bench;
  for (let number = 10; number < 20; number += 1) arm.seed.identity(`one-${number}`);
  const seen: (string | undefined)[] = [];
  for await (const { name } of clients.identities.userAssignedIdentities.listByResourceGroup(group)) {
    seen.push(name);
    if (name === "one-12") {
      await clients.identities.userAssignedIdentities.delete(group, "one-10");
      arm.seed.identity("one-1");
    }
  }
  assert.equal(new Set(seen).size, 11);
  assert.equal(seen.length, 11);
  assert.equal((await all(clients.identities.userAssignedIdentities.listBySubscription())).length, 11);
});

test("the vault lets a runtime's identity read its own secret and nothing else (F93, F94)", async (t) => {
  const bench = await setUpArm(t);
  const { azure, arm, clients } = bench;
  const { owner } = await prepareApp(azure, clients, "acme");
  const own = "the-control-plane";
  const guarded = await startKeyVault(azure.identity, {
    authorize: (principalId, name, method) =>
      principalId === own || (method === "GET" && arm.mayRead(principalId, name)),
  });
  t.after(() => guarded.close());
  const call = async (principalId: string, method: "GET" | "PUT", name: string) => {
    const { statusCode, body } = await request(`${guarded.url}/secrets/${name}?api-version=7.6`, {
      method,
      headers: { authorization: `Bearer ${azure.identity.issue(principalId, "https://vault.azure.net")}` },
      body: method === "PUT" ? JSON.stringify({ value: "s3cret" }) : null,
    });
    await body.dump();
    return statusCode;
  };
  for (const name of ["acme-webhook", "other-webhook"]) assert.equal(await call(own, "PUT", name), 200);
  const runtime = owner.principalId ?? "";
  assert.equal(await call(runtime, "GET", "acme-webhook"), 200);
  assert.equal(await call(runtime, "GET", "other-webhook"), 403);
  assert.equal(await call(runtime, "PUT", "acme-webhook"), 403);
  assert.equal(await call(runtime, "GET", ""), 403);
});
