import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { createTestDatabase } from "../testing/database.ts";
import type { Vault } from "../adapters/vault/vault.ts";
import { UpstreamError } from "../platform/errors.ts";
import { definitionOf } from "../adapters/oauth/test-setup.ts";
import { CALENDAR, MAIL, openStage, providersOf, ready } from "./connect-test-setup.ts";
import { disconnect } from "./disconnect.ts";
import { listEvents } from "./events.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

async function setUp(t: TestContext, options: Parameters<typeof openStage>[2] = {}) {
  const stage = await openStage(t, database.db, options);
  await database.pool.query("DELETE FROM graphile_worker._private_jobs");
  const tenantId = await stage.newTenant();
  const outcomes = async (provider = MAIL) =>
    (await listEvents(database.db, { tenantId, provider }, 50)).map(
      ({ kind, outcome, code }) => `${kind} ${outcome} ${code}`,
    );
  return { ...stage, tenantId, outcomes };
}

test("a consent becomes a connection whose tokens lie in the vault alone, and its person is told once (F78)", async (t) => {
  const { ann, connect, find, tokens, jobs, tenantId, clock, server, outcomes } = await setUp(t);
  const outcome = await connect(tenantId);
  assert.ok(outcome.kind === "connected");
  assert.equal(outcome.accountEmail, ann.email);
  const connection = await find(tenantId);
  const kept = await tokens(tenantId);
  assert.ok(connection !== undefined && kept !== undefined);
  assert.deepEqual(
    [connection.state, connection.client, connection.accountSubject, connection.accountEmail],
    ["active", "loopback", ann.subject, ann.email],
  );
  assert.deepEqual(connection.accessExpiresAt, new Date(clock.now().getTime() + 3_600_000));
  assert.deepEqual(connection.refreshAt, new Date(clock.now().getTime() + 2_700_000));
  assert.deepEqual([kept.grantId, kept.fence], [connection.grantId, connection.secretFence]);
  assert.equal(server.holderOf(kept.accessToken)?.person.email, ann.email);
  assert.ok(!JSON.stringify(connection).includes(kept.accessToken));
  const news = { tenantId, provider: MAIL, grantId: connection.grantId, news: "connected" };
  assert.deepEqual(await jobs("connection.tell"), [news]);
  assert.deepEqual(await outcomes(), ["connect done null"]);
});

test("whoever unticks what is needed connects nothing, is told what, and leaves no grant behind (F77)", async (t) => {
  const { connect, find, tokens, tenantId, server, outcomes } = await setUp(t);
  const outcome = await connect(tenantId, { decision: { scopes: ["openid", "email"] } });
  assert.ok(outcome.kind === "scopes-missing");
  assert.deepEqual(outcome.missing, ["mail.modify"]);
  assert.deepEqual([await find(tenantId), await tokens(tenantId)], [undefined, undefined]);
  assert.ok(server.grants.every(({ isAlive }) => !isAlive));
  assert.deepEqual(await outcomes(), ["revoke done revoked", "connect failed scopes-missing"]);
});

test("a connection that stands on the same grant outlives one that was not kept (F77)", async (t) => {
  const { connect, tenantId, tokens, server } = await setUp(t);
  assert.equal((await connect(tenantId)).kind, "connected");
  const again = await connect(tenantId, { provider: CALENDAR, decision: { scopes: ["openid", "email"] } });
  assert.equal(again.kind, "scopes-missing");
  assert.ok(server.holderOf((await tokens(tenantId))?.accessToken ?? "") !== undefined);
});

test("access that would not last is not taken, and ends", async (t) => {
  const { ctx, connect, find, tenantId, server, clock } = await setUp(t);
  // Google gives nothing to renew access with unless it is asked in its own way.
  const definition = definitionOf(server, { id: MAIL });
  const own = { ...ctx, providers: providersOf([ready(definition, clock)]) };
  assert.equal((await connect(tenantId, { ctx: own })).kind, "not-lasting");
  assert.equal(await find(tenantId), undefined);
  assert.ok(server.grants.every(({ isAlive }) => !isAlive));
  const modest = { ...definition, needsRefreshToken: false };
  assert.equal(
    (await connect(tenantId, { ctx: { ...ctx, providers: providersOf([ready(modest, clock)]) } })).kind,
    "connected",
  );
  const { hasRefreshToken, refreshAt, accessExpiresAt } = (await find(tenantId)) ?? {};
  assert.deepEqual([hasRefreshToken, refreshAt], [false, accessExpiresAt]);
});

test("a provider that refuses, fails or says no leaves everything as it was, and says which it was", async (t) => {
  const { connect, find, tokens, tenantId, server, outcomes } = await setUp(t);
  assert.equal((await connect(tenantId, { decision: { deny: true } })).kind, "denied");
  server.failNext("token", { status: 502, body: "<html>" });
  assert.equal((await connect(tenantId)).kind, "unavailable");
  server.failNext("token", { status: 400, body: '{"error":"invalid_grant"}' });
  assert.equal((await connect(tenantId)).kind, "too-late");
  server.failNext("token", { status: 401, body: '{"error":"invalid_client"}' });
  assert.equal((await connect(tenantId)).kind, "client-refused");
  assert.deepEqual([await find(tenantId), await tokens(tenantId)], [undefined, undefined]);
  assert.deepEqual(await outcomes(), [
    "connect denied access_denied",
    "connect unavailable server_error",
    "connect dead invalid_grant",
    "connect client invalid_client",
  ]);
});

test("two providers of one account live side by side", async (t) => {
  const { connect, tenantId, tokens, server } = await setUp(t);
  await connect(tenantId);
  await connect(tenantId, { provider: CALENDAR });
  for (const provider of [MAIL, CALENDAR])
    assert.ok(server.holderOf((await tokens(tenantId, provider))?.accessToken ?? "") !== undefined);
});

test("a vault that fails leaves the connection of before as it was", async (t) => {
  const { bob, server, ctx, connect, find, tenantId } = await setUp(t);
  await connect(tenantId);
  const before = await find(tenantId);
  const down = new UpstreamError("vault_down", "The vault is down.", { service: "vault", retryable: true });
  for (const broken of [
    { set: () => Promise.reject(down) },
    { getVersion: () => Promise.reject(down) },
    { getVersion: async () => undefined },
  ] satisfies Partial<Vault>[]) {
    const own = { ...ctx, vault: { ...ctx.vault, ...broken } };
    await assert.rejects(connect(tenantId, { ctx: own, decision: { subject: bob.subject } }), UpstreamError);
    assert.deepEqual(await find(tenantId), before);
    // What was granted for nothing has ended (F77), and what was there lives on.
    assert.deepEqual(server.grants.map(({ person, isAlive }) => [person.email, isAlive]).at(-1), [bob.email, false]);
  }
  assert.equal(server.grants[0]?.isAlive, true);
});

test("a vault that fails for a moment keeps nothing of what was not connected", async (t) => {
  const { ctx, connect, tenantId, vault } = await setUp(t);
  const down = new UpstreamError("vault_down", "The vault is down.", { service: "vault", retryable: true });
  const set: Vault["set"] = async (name, value) => {
    await vault.set(name, value);
    throw down;
  };
  for (const broken of [{ set }, { getVersion: async () => undefined }] satisfies Partial<Vault>[]) {
    await assert.rejects(connect(tenantId, { ctx: { ...ctx, vault: { ...vault, ...broken } } }), UpstreamError);
    assert.deepEqual(await vault.list(`connection-${tenantId}`), []);
  }
});

test("a tenant that goes away meanwhile is not connected, and nothing of its is left", async (t) => {
  const { ctx, connect, tenantId, vault } = await setUp(t);
  const set: Vault["set"] = async (name, value) => {
    const version = await vault.set(name, value);
    await database.pool.query("DELETE FROM tenants WHERE id = $1", [tenantId]);
    return version;
  };
  const outcome = await connect(tenantId, { ctx: { ...ctx, vault: { ...vault, set } } });
  assert.equal(outcome.kind, "tenant-gone");
  assert.deepEqual(await vault.list(`connection-${tenantId}`), []);
});

test("a link that is replaced at the last moment connects nothing, and what was written for it goes", async (t) => {
  const { ctx, connect, find, tokens, tenantId, vault, link, server } = await setUp(t);
  const set: Vault["set"] = async (name, value) => {
    await link(tenantId);
    return vault.set(name, value);
  };
  const outcome = await connect(tenantId, { ctx: { ...ctx, vault: { ...vault, set } } });
  assert.equal(outcome.kind, "link-replaced");
  assert.deepEqual([await find(tenantId), await tokens(tenantId)], [undefined, undefined]);
  assert.ok(server.grants.every(({ isAlive }) => !isAlive));
});

test("a disconnect at the last moment ends the consent that is under way, too", async (t) => {
  const { ctx, connect, find, secrets, tenantId, vault, server } = await setUp(t);
  await connect(tenantId);
  const set: Vault["set"] = async (name, value) => {
    // As of one who stood still for so long that the lease was another's.
    await database.pool.query("UPDATE connection_leases SET lease_until = NULL");
    await disconnect(ctx, { tenantId, provider: MAIL }, { reason: "asked", askedBy: "operator" });
    return vault.set(name, value);
  };
  const outcome = await connect(tenantId, { ctx: { ...ctx, vault: { ...vault, set } } });
  assert.equal(outcome.kind, "overtaken");
  assert.deepEqual([(await find(tenantId))?.state, await secrets(tenantId)], ["revoked", []]);
  assert.ok(server.grants.every(({ isAlive }) => !isAlive));
});

test("a tenant that is on its way out at the last moment is not connected either", async (t) => {
  const { ctx, connect, find, tokens, tenantId, vault, server } = await setUp(t);
  const set: Vault["set"] = async (name, value) => {
    await database.pool.query("UPDATE tenants SET status = 'deprovisioning' WHERE id = $1", [tenantId]);
    return vault.set(name, value);
  };
  const outcome = await connect(tenantId, { ctx: { ...ctx, vault: { ...vault, set } } });
  assert.equal(outcome.kind, "tenant-gone");
  assert.deepEqual([await find(tenantId), await tokens(tenantId)], [undefined, undefined]);
  assert.ok(server.grants.every(({ isAlive }) => !isAlive));
});

test("when patience ends after the grant was given, the grant ends, too (F77)", async (t) => {
  const { connect, find, tokens, tenantId, server } = await setUp(t);
  const patience = new AbortController();
  const held = server.hold("token", "after");
  const outcome = connect(tenantId, { signal: patience.signal });
  await held.reached;
  patience.abort();
  held.release();
  await assert.rejects(outcome, { name: "AbortError" });
  assert.deepEqual([await find(tenantId), await tokens(tenantId)], [undefined, undefined]);
  assert.deepEqual(
    server.grants.map(({ isAlive }) => isAlive),
    [false],
  );
});

test("of a tenant that is forgotten while the provider refuses, nothing is recorded", async (t) => {
  const { connect, tenantId, server } = await setUp(t);
  const held = server.hold("token", "before");
  server.failNext("token", { status: 503 });
  const outcome = connect(tenantId);
  await held.reached;
  await database.pool.query("DELETE FROM tenants WHERE id = $1", [tenantId]);
  held.release();
  assert.equal((await outcome).kind, "unavailable");
});
