import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { connectionSecretName, type Vault } from "../adapters/vault/vault.ts";
import { UpstreamError } from "../platform/errors.ts";
import { createTestDatabase } from "../testing/database.ts";
import { CALENDAR, MAIL, NEVER, openStage } from "./connect-test-setup.ts";
import { disconnect } from "./disconnect.ts";
import { listEvents } from "./events.ts";
import { sweepRevocations } from "./sweep-revocations.ts";

const HOUR_MS = 3_600_000;

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

async function setUp(t: TestContext, options: Parameters<typeof openStage>[2] = {}) {
  const stage = await openStage(t, database.db, options);
  await database.pool.query("DELETE FROM grants_to_end");
  const tenantId = await stage.newTenant();
  return {
    ...stage,
    tenantId,
    sweep: () => sweepRevocations(stage.ctx, NEVER),
    outcomes: async () =>
      (await listEvents(database.db, { tenantId, provider: MAIL }, 50)).map(
        ({ kind, outcome, code }) => `${kind} ${outcome} ${code}`,
      ),
  };
}

for (const manner of ["plain", "google"] as const) {
  test(`connecting again with another account takes the place of the first, whose grant ends, at a ${manner} provider`, async (t) => {
    const { bob, connect, find, tenantId, tokens, secrets, ending, sweep, server, clock } = await setUp(t, { manner });
    await connect(tenantId);
    const first = await find(tenantId);
    const firstTokens = await tokens(tenantId);
    await connect(tenantId, { decision: { subject: bob.subject } });
    const second = await find(tenantId);
    assert.notEqual(second?.grantId, first?.grantId);
    assert.equal(second?.accountEmail, bob.email);
    assert.deepEqual(
      (await ending(tenantId)).map(({ grantId }) => grantId),
      [first?.grantId],
    );
    server.failNext("revoke", { status: 503 });
    assert.deepEqual(await sweep(), { ended: 0, pending: 1 });
    assert.equal((await secrets(tenantId)).length, 2);
    clock.advance(30_000);
    assert.deepEqual(await sweep(), { ended: 1, pending: 0 });
    assert.equal((await secrets(tenantId)).length, 1);
    assert.equal(server.holderOf(firstTokens?.accessToken ?? ""), undefined);
    assert.equal(server.holderOf((await tokens(tenantId))?.accessToken ?? "")?.person.email, bob.email);
  });
}

test("where consents share a grant, connecting again with the account ends nothing but the former tokens (F77)", async (t) => {
  const { bob, connect, tenantId, newTenant, tokens, secrets, sweep, server } = await setUp(t);
  await connect(tenantId);
  await connect(tenantId);
  await sweep();
  assert.ok(server.holderOf((await tokens(tenantId))?.accessToken ?? "") !== undefined);
  assert.equal((await secrets(tenantId)).length, 1);
  // Nor does another account, while others stand on the first.
  const other = await newTenant();
  await connect(other, { provider: CALENDAR });
  await connect(tenantId, { decision: { subject: bob.subject } });
  await sweep();
  assert.ok(server.holderOf((await tokens(other, CALENDAR))?.accessToken ?? "") !== undefined);
});

test("where each consent is a grant of its own, the former ends, and so does one that is refused (F77)", async (t) => {
  const { connect, find, tenantId, newTenant, sweep, server } = await setUp(t, { manner: "plain" });
  const alive = () => server.grants.map(({ isAlive }) => isAlive);
  await connect(tenantId);
  await connect(await newTenant());
  await connect(tenantId);
  await sweep();
  assert.deepEqual(alive(), [false, true, true]);
  const { grantId } = (await find(tenantId)) ?? {};
  assert.equal((await connect(tenantId, { decision: { scopes: ["openid", "email"] } })).kind, "scopes-missing");
  assert.deepEqual([...alive(), (await find(tenantId))?.grantId], [false, true, true, false, grantId]);
});

test("a former grant whose tokens are gone is said to live on, and one of a forgotten tenant is ended all the same", async (t) => {
  const { bob, connect, tenantId, outcomes, sweep, secrets, vault, server, find } = await setUp(t);
  await connect(tenantId);
  const { grantId = "" } = (await find(tenantId)) ?? {};
  await connect(tenantId, { decision: { subject: bob.subject } });
  await vault.delete(connectionSecretName(tenantId, MAIL, grantId));
  await sweep();
  assert.equal((await outcomes()).at(-1), "revoke failed tokens_missing");
  await connect(tenantId);
  await database.pool.query("DELETE FROM tenants WHERE id = $1", [tenantId]);
  await sweep();
  assert.equal(server.grants[1]?.isAlive, false);
  assert.equal((await secrets(tenantId)).length, 1);
});

test("what was granted and is not kept is ended later while the provider is down (F77)", async (t) => {
  const { ctx, connect, tenantId, secrets, ending, sweep, server, clock, vault } = await setUp(t);
  const down = new UpstreamError("vault_down", "The vault is down.", { service: "vault", retryable: true });
  const unread = { ...ctx, vault: { ...vault, getVersion: () => Promise.reject(down) } };
  const isOver = async () => {
    assert.equal((await ending(tenantId)).length, 1);
    clock.advance(HOUR_MS);
    await sweep();
    assert.deepEqual([await secrets(tenantId), await ending(tenantId)], [[], []]);
    assert.ok(server.grants.every(({ isAlive }) => !isAlive));
  };
  server.failNext("revoke", { status: 503 });
  assert.equal((await connect(tenantId, { decision: { scopes: ["openid"] } })).kind, "scopes-missing");
  await isOver();
  server.failNext("revoke", { status: 503 });
  await assert.rejects(connect(tenantId, { ctx: unread }), { code: "vault_down" });
  await isOver();
  server.alterNextIdToken((claims) => ({ ...claims, nonce: "of-another" }));
  server.failNext("revoke", { status: 503 });
  assert.equal((await connect(tenantId)).kind, "foreign");
  await isOver();
});

test("a daemon that is killed in the middle of a connect leaves nothing that is not ended (F77)", async (t) => {
  const { ctx, connect, find, tenantId, secrets, sweep, server, clock, vault } = await setUp(t);
  const killed = Promise.withResolvers<never>();
  const reached = Promise.withResolvers<void>();
  const set: Vault["set"] = async (name, value) => {
    await vault.set(name, value);
    reached.resolve();
    return killed.promise;
  };
  const late = connect(tenantId, { ctx: { ...ctx, vault: { ...vault, set } } });
  late.catch(() => undefined);
  await reached.promise;
  assert.deepEqual(await sweep(), { ended: 0, pending: 0 });
  clock.advance(5 * 60_000);
  assert.deepEqual(await sweep(), { ended: 1, pending: 0 });
  assert.deepEqual([await find(tenantId), await secrets(tenantId)], [undefined, []]);
  assert.ok(server.grants.every(({ isAlive }) => !isAlive));
  killed.reject(new Error("it ends here"));
  await assert.rejects(late, /it ends here/);
});

test("a connect that took so long that its grant was ended makes no connection, and leaves no token", async (t) => {
  const { ctx, connect, find, tenantId, secrets, ending, sweep, clock, vault } = await setUp(t);
  const set: Vault["set"] = async (name, value) => {
    clock.advance(5 * 60_000);
    await sweep();
    return vault.set(name, value);
  };
  assert.equal((await connect(tenantId, { ctx: { ...ctx, vault: { ...vault, set } } })).kind, "overtaken");
  assert.deepEqual([await find(tenantId), await secrets(tenantId), await ending(tenantId)], [undefined, [], []]);
});

test("a grant on which a consent under way is about to stand is left alive for it (F77)", async (t) => {
  const { ctx, connect, tenantId, tokens, server, vault } = await setUp(t);
  await connect(tenantId);
  const set: Vault["set"] = async (name, value) => {
    const asked = { reason: "asked", askedBy: "operator" } as const;
    assert.deepEqual(await disconnect(ctx, { tenantId, provider: MAIL }, asked), { revocation: "shared" });
    return vault.set(name, value);
  };
  const other = { provider: CALENDAR, ctx: { ...ctx, vault: { ...vault, set } } };
  assert.equal((await connect(tenantId, other)).kind, "connected");
  assert.ok(server.holderOf((await tokens(tenantId, CALENDAR))?.accessToken ?? "") !== undefined);
});

test("a consent under way whose grant was revoked meanwhile makes no connection that would not work (F77)", async (t) => {
  const { ctx, connect, find, tenantId, secrets, ending, server, vault } = await setUp(t);
  await connect(tenantId);
  const held = server.hold("revoke", "before");
  const disconnected = disconnect(ctx, { tenantId, provider: MAIL }, { reason: "asked", askedBy: "operator" });
  await held.reached;
  const set: Vault["set"] = async (name, value) => {
    held.release();
    assert.deepEqual(await disconnected, { revocation: "revoked" });
    return vault.set(name, value);
  };
  const other = { provider: CALENDAR, ctx: { ...ctx, vault: { ...vault, set } } };
  assert.equal((await connect(tenantId, other)).kind, "overtaken");
  assert.equal(await find(tenantId, CALENDAR), undefined);
  assert.deepEqual([await secrets(tenantId), await ending(tenantId)], [[], []]);
});

test("more grants than a sweep takes up at once, at a provider that is slow, keep no other's from their turn", async (t) => {
  const { ctx, connect, tenantId, ending, sweep, clock, server } = await setUp(t);
  await connect(tenantId);
  server.failNext("revoke", { status: 503 });
  await disconnect(ctx, { tenantId, provider: MAIL }, { reason: "asked", askedBy: "operator" });
  clock.advance(HOUR_MS);
  const since = new Date(clock.now().getTime() - 2 * HOUR_MS);
  await database.pool.query(
    `INSERT INTO grants_to_end (grant_id, tenant_id, provider, client, since, try_at)
     SELECT gen_random_uuid(), $1, 'of-old', 'of-old', $2, $2 FROM generate_series(1, 600)`,
    [tenantId, since],
  );
  await sweep();
  assert.ok((await ending(tenantId)).every(({ provider }) => provider !== MAIL));
  await database.pool.query("DELETE FROM grants_to_end");
});
