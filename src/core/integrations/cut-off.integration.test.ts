import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { connectionSecretPrefix, type Vault } from "../adapters/vault/vault.ts";
import { UpstreamError } from "../platform/errors.ts";
import { createTestDatabase } from "../testing/database.ts";
import { ensureToken } from "./ensure-token.ts";
import { listGrantsOf, noteGrant } from "./grant-store.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { forgetTokens } from "./kept-tokens.ts";
import { withLease } from "./lease.ts";
import * as store from "./store.ts";
import type { ConnectionKey } from "./store.ts";
import { sweepRevocations } from "./sweep-revocations.ts";
import { HOUR_MS, NEVER, openStage, type Stage, tokenOf } from "./test-setup.ts";
import { type Call, type Moment, MOMENTS, stallingWorker, workerThrough } from "./test-workers.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

/** Long enough for a token that was spent twice, as most providers leave. */
const LEEWAY = { leewayMs: 60_000 };

const ask = (ctx: IntegrationsContext, key: ConnectionKey) =>
  ensureToken(ctx, key, { askedBy: "runtime", minRemainingMs: 120_000, signal: NEVER });

/** An expired connection, with a refresher that stopped at a moment and whose lease has run out. */
async function stalledAt(t: TestContext, at: { call: Call; moment: Moment }, options = {}) {
  const stage = await openStage(t, database.db, options);
  const key = await stage.connect();
  stage.clock.advance(HOUR_MS);
  const stalled = stallingWorker(stage, at);
  const late = ask(stalled.ctx, key);
  late.catch(() => undefined);
  await stalled.reached;
  await stage.runOut(key);
  return { stage, key, late, wake: stalled.wake };
}

async function isConsistent(stage: Stage, key: ConnectionKey): Promise<void> {
  const { state, accessExpiresAt, secretFence, grantId } = await stage.connection(key);
  const stored = await stage.stored(key);
  assert.ok(stored !== undefined);
  assert.deepEqual([stored.fence, stored.grantId], [secretFence, grantId]);
  assert.equal(stored.accessExpiresAt, accessExpiresAt?.toISOString());
  assert.equal(state, "active");
  assert.ok(stage.provider.holderOf(stored.accessToken) !== undefined);
}

for (const at of MOMENTS) {
  const { call, moment } = at;
  // Nobody else knows what the provider answered.
  const isLost = (call === "spend" && moment === "after") || (call === "write" && moment === "before");
  test(`a refresher killed ${moment} it could ${call}: the next one goes on, with at most one more refresh (F76)`, async (t) => {
    const { stage, key, late, wake } = await stalledAt(t, at, LEEWAY);
    const token = tokenOf(await ask(stage.worker(), key));
    assert.ok(stage.provider.holderOf(token) !== undefined);
    await isConsistent(stage, key);
    assert.equal(stage.refreshes(), isLost ? 2 : 1);
    stage.clock.advance(HOUR_MS);
    tokenOf(await ask(stage.worker(), key));
    await isConsistent(stage, key);
    wake();
    await late;
  });

  test(`a refresher that wakes up too late, ${moment} it could ${call}, changes nothing, and gets the token that counts (F76)`, async (t) => {
    const { stage, key, late, wake } = await stalledAt(t, at, LEEWAY);
    const token = tokenOf(await ask(stage.worker(), key));
    const before = await stage.connection(key);
    wake();
    assert.equal(tokenOf(await late), token);
    assert.deepEqual(await stage.connection(key), before);
    // Whoever stops between asking whether it may and doing so does what it may no longer do.
    const isPastAsking = call === "spend" && moment === "before";
    assert.equal(stage.refreshes(), isLost || isPastAsking ? 2 : 1);
    stage.clock.advance(HOUR_MS);
    tokenOf(await ask(stage.worker(), key));
    await isConsistent(stage, key);
  });

  test(`a refresher that wakes up after a disconnect, ${moment} it could ${call}, brings nothing back and leaves nothing`, async (t) => {
    const { stage, key, late, wake } = await stalledAt(t, at);
    await disconnect(stage, key, { isTold: true });
    const before = await stage.connection(key);
    wake();
    assert.deepEqual(await late, { kind: "gone", state: "revoked", reason: "disconnected" });
    assert.deepEqual(await stage.connection(key), before);
    assert.deepEqual(await stage.ctx.vault.list(connectionSecretPrefix(key.tenantId)), []);
  });

  test(`a refresher that wakes up after another consent, ${moment} it could ${call}, leaves it alone`, async (t) => {
    const { stage, key, late, wake } = await stalledAt(t, at);
    await disconnect(stage, key, { isTold: true });
    await withLease(stage.ctx, key, { patienceMs: 0 }, async ({ fence }) =>
      stage.reconnect(key, { secretFence: fence }, fence),
    );
    const before = await stage.connection(key);
    const stored = await stage.stored(key);
    wake();
    assert.equal(tokenOf(await late), stored?.accessToken);
    assert.deepEqual(await stage.connection(key), before);
    stage.clock.advance(HOUR_MS);
    tokenOf(await ask(stage.worker(), key));
    await isConsistent(stage, key);
  });

  test(`with one failure ${moment} it could ${call}, nothing is lost`, async (t) => {
    const stage = await openStage(t, database.db);
    const key = await stage.connect();
    stage.clock.advance(HOUR_MS);
    let failures = 0;
    const fail = (now: Moment, what: Call) => {
      if (what !== call || now !== moment || call === "spend" || failures++ > 0) return;
      throw new UpstreamError("vault_failed", "The vault does not answer.", { service: "vault", retryable: true });
    };
    const ctx = workerThrough(stage, async (what, work) => {
      fail("before", what);
      const result = await work();
      fail("after", what);
      return result;
    });
    const answer = await ask(ctx, key);
    if (call === "read") assert.ok(answer.kind === "unavailable" && answer.code === "vault_failed");
    else tokenOf(answer);
    stage.clock.advance(15_000);
    tokenOf(await ask(ctx, key));
    assert.equal(stage.provider.grants[0]?.reuses, 0);
    await isConsistent(stage, key);
  });
}

async function disconnect(stage: Stage, key: ConnectionKey, { isTold }: { isTold: boolean }): Promise<void> {
  await withLease(stage.ctx, key, { patienceMs: 0 }, async (held) => {
    const now = stage.clock.now();
    const { connection } = held;
    assert.ok(connection !== undefined);
    await held.promote({ state: "revoked", reason: "disconnected", refreshAt: null });
    if (isTold) await forgetTokens(stage.ctx.vault, connection);
    else await noteGrant(stage.ctx.db, connection, { since: now, tryAt: now });
  });
}

test("what is written after a disconnect is kept while the provider can't be told of it, and ends with it (F77)", async (t) => {
  const { stage, key, late, wake } = await stalledAt(t, { call: "write", moment: "before" }, { rotates: true });
  await disconnect(stage, key, { isTold: false });
  stage.provider.failNext("revoke", { status: 503 });
  wake();
  assert.equal((await late).kind, "gone");
  assert.equal((await listGrantsOf(database.db, [key.tenantId])).length, 1);
  assert.equal((await stage.ctx.vault.list(connectionSecretPrefix(key.tenantId))).length, 1);
  stage.clock.advance(HOUR_MS);
  await sweepRevocations(stage.ctx, NEVER);
  assert.deepEqual(await stage.ctx.vault.list(connectionSecretPrefix(key.tenantId)), []);
  assert.ok(stage.provider.grants.every(({ isAlive }) => !isAlive));
});

test("what is written after a tenant was purged is deleted", async (t) => {
  const { stage, key, late, wake } = await stalledAt(t, { call: "write", moment: "before" });
  await database.db.deleteFrom("tenants").where("id", "=", key.tenantId).execute();
  wake();
  assert.deepEqual(await late, { kind: "gone", state: "absent", reason: null });
  assert.deepEqual(await stage.ctx.vault.list(connectionSecretPrefix(key.tenantId)), []);
});

/** As a provider that spends a token without having it end the grant when it comes again. */
const SPENT = { status: 400, headers: { "content-type": "application/json" }, body: '{"error":"invalid_grant"}' };

test("a grant that was taken for dead lives on when the one who had spent its token wakes up (F76)", async (t) => {
  const { stage, key, late, wake } = await stalledAt(t, { call: "spend", moment: "after" });
  stage.provider.failNext("token", SPENT);
  assert.equal((await ask(stage.worker(), key)).kind, "gone");
  wake();
  tokenOf(await late);
  await isConsistent(stage, key);
  assert.deepEqual(await stage.outcomes(key), ["dead", "recovered"]);
});

test("a grant that is called dead is looked at again: what another wrote meanwhile counts (F76)", async (t) => {
  const { stage, key, late, wake } = await stalledAt(t, { call: "spend", moment: "after" });
  stage.provider.failNext("token", SPENT);
  const hold = stage.provider.hold("token", "before");
  const next = ask(stage.worker(), key);
  await hold.reached;
  wake();
  // It has written, was overtaken and waits for the lease now.
  await stage.sawLine("somebody else went on");
  hold.release();
  assert.equal(tokenOf(await next), tokenOf(await late));
  await isConsistent(stage, key);
  assert.equal(await stage.news(key), 0);
});

test("a new refresh token is not given up because the vault is away for a moment", async (t) => {
  const stage = await openStage(t, database.db);
  const key = await stage.connect();
  stage.clock.advance(HOUR_MS);
  let failures = 2;
  const isAway: (vault: Vault) => Vault = (vault) => ({
    ...vault,
    async set(...args) {
      if (failures-- > 0) throw new UpstreamError("vault_failed", "away", { service: "vault", retryable: true });
      return vault.set(...args);
    },
  });
  tokenOf(await ask(stage.worker(isAway), key));
  assert.equal(stage.refreshes(), 1);
  await isConsistent(stage, key);
});

test("while a vault can be read but takes nothing, no more refresh tokens are spent, and then all goes on", async (t) => {
  const stage = await openStage(t, database.db, { rotates: false });
  const [first, second] = [await stage.connect(), await stage.connect()];
  stage.clock.advance(HOUR_MS);
  let isReadOnly = true;
  const ctx = stage.worker((vault) => ({
    ...vault,
    async set(...args) {
      if (isReadOnly) throw new UpstreamError("vault_failed", "read-only", { service: "vault", retryable: true });
      return vault.set(...args);
    },
  }));
  const failed = { kind: "unavailable", code: "vault_failed" };
  for (const key of [first, second]) assert.partialDeepStrictEqual(await ask(ctx, key), failed);
  assert.equal(stage.refreshes(), 1);
  stage.clock.advance(15_000);
  assert.partialDeepStrictEqual(await ask(ctx, first), failed);
  assert.equal(stage.refreshes(), 1);
  isReadOnly = false;
  stage.clock.advance(15_000);
  for (const key of [first, second]) {
    tokenOf(await ask(ctx, key));
    await isConsistent(stage, key);
  }
  assert.equal(stage.refreshes(), 3);
});

/** The database as it was several refreshes ago, with a vault that has gone on. */
async function putBack(t: TestContext, options: Parameters<typeof openStage>[2] = {}) {
  const stage = await openStage(t, database.db, options);
  const key = await stage.connect();
  const renewLater = async () => {
    stage.clock.advance(HOUR_MS);
    return tokenOf(await ask(stage.worker(), key));
  };
  await renewLater();
  const kept = await stage.connection(key);
  const lease = database.db.updateTable("connectionLeases").where("tenantId", "=", key.tenantId);
  for (let nth = 0; nth < 3; nth += 1) await renewLater();
  await store.replace(database.db, kept);
  await lease.set({ fence: kept.secretFence }).execute();
  stage.clock.advance(HOUR_MS);
  return { stage, key, renewLater };
}

test("after a backup of the database is put back, the tokens that the vault got since go on to be used (F76)", async (t) => {
  const { stage, key, renewLater } = await putBack(t);
  const token = tokenOf(await ask(stage.worker(), key));
  assert.ok(stage.provider.holderOf(token) !== undefined);
  assert.ok(stage.provider.grants.every(({ reuses }) => reuses === 0));
  await renewLater();
  await isConsistent(stage, key);
});

test("whoever goes on after a backup is put back, and is cut off in turn, leaves what the next one finds (F76)", async (t) => {
  const { stage, key } = await putBack(t);
  const stalled = stallingWorker(stage, { call: "write", moment: "after" });
  t.after(() => stalled.wake());
  const late = ask(stalled.ctx, key);
  late.catch(() => undefined);
  await stalled.reached;
  await stage.runOut(key);
  const token = tokenOf(await ask(stage.worker(), key));
  assert.ok(stage.provider.holderOf(token) !== undefined);
  assert.ok(stage.provider.grants.every(({ reuses }) => reuses === 0));
  await isConsistent(stage, key);
  stalled.wake();
  assert.equal(tokenOf(await late), token);
});
