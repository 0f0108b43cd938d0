import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connectionSecretName } from "../adapters/vault/vault.ts";
import { addMs } from "../platform/clock.ts";
import { UpstreamError } from "../platform/errors.ts";
import type { OAuthFault } from "../testing/fakes/oauth/faults.ts";
import { createTestDatabase } from "../testing/database.ts";
import { ensureToken } from "./ensure-token.ts";
import { renewConnection } from "./refresh.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import type { ConnectionKey } from "./store.ts";
import { HOUR_MS, NEVER, openStage, tokenOf } from "./test-setup.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

const MINUTE_MS = 60_000;
const RUNTIME = { askedBy: "runtime", minRemainingMs: 120_000, signal: NEVER } as const;
const SWEEP = { askedBy: "sweep", minRemainingMs: 0 } as const;

const ask = (ctx: IntegrationsContext, key: ConnectionKey) => ensureToken(ctx, key, RUNTIME);
const json = (status: number, body: object, headers = {}): OAuthFault => ({
  status,
  headers: { "content-type": "application/json", ...headers },
  body: JSON.stringify(body),
});

test("a token that holds is given as it is; one that ends soon is renewed, kept, and its successor due in time", async (t) => {
  const { ctx, clock, provider, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  const first = tokenOf(await ask(ctx, key));
  clock.advance(HOUR_MS - 121_000);
  assert.equal(tokenOf(await ask(ctx, key)), first);
  assert.equal(stage.refreshes(), 0);
  clock.advance(2_000);
  const answer = await ask(ctx, key);
  const second = tokenOf(answer);
  assert.notEqual(second, first);
  assert.deepEqual(answer, {
    kind: "token",
    accessToken: second,
    expiresAt: addMs(clock.now(), HOUR_MS),
    scopes: ["email", "mail.modify", "openid"],
    account: "ann@example.com",
    renewed: true,
  });
  assert.ok(provider.holderOf(second) !== undefined);
  assert.equal((await stage.stored(key))?.accessToken, second);
  assert.deepEqual((await stage.connection(key)).refreshAt, addMs(clock.now(), 45 * MINUTE_MS));
  assert.equal(tokenOf(await ask(ctx, key)), second);
  assert.deepEqual([stage.refreshes(), await stage.outcomes(key)], [1, ["done"]]);
});

test("a day of everything that passes changes nothing but when it is tried next, and then it works again (F73)", async (t) => {
  const { ctx, clock, provider, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  const { attempts: _a, refreshAt: _r, ...before } = await stage.connection(key);
  const faults: OAuthFault[] = [
    json(500, { error: "server_error" }),
    json(400, { error: "internal_failure" }),
    json(200, { error: "server_error" }),
    { status: 502, headers: { "content-type": "text/html" }, body: "<h1>Bad Gateway</h1>" },
    { status: 302, headers: { location: "https://ipv4.google.com/sorry" }, body: "" },
    json(503, {}, { "retry-after": "120" }),
    json(429, { error: "slow_down" }, { "retry-after": "86400" }),
    "reset",
  ];
  let tries = 0;
  const end = addMs(clock.now(), 24 * HOUR_MS);
  for (let row = await stage.connection(key); row.refreshAt !== null && row.refreshAt < end; tries += 1) {
    clock.advance(row.refreshAt.getTime() - clock.now().getTime());
    const fault = faults[tries % faults.length];
    assert.ok(fault !== undefined);
    provider.failNext("token", fault);
    const renewal = await renewConnection(ctx, key, SWEEP);
    assert.equal(renewal.kind, "unavailable");
    row = await stage.connection(key);
    const waitMs = (row.refreshAt?.getTime() ?? 0) - clock.now().getTime();
    assert.ok(waitMs >= 15_000 && waitMs <= HOUR_MS, `${waitMs}`);
    const { attempts, refreshAt: _, triedAt: __, trouble: ___, waitUntil: ____, ...rest } = row;
    assert.equal(attempts, tries + 1);
    assert.deepEqual({ ...rest, triedAt: null, trouble: null, waitUntil: null }, before);
  }
  assert.ok(tries > 24, `${tries}`);
  clock.advance(HOUR_MS);
  assert.equal((await renewConnection(ctx, key, SWEEP)).kind, "renewed");
  const { attempts, trouble, waitUntil, state } = await stage.connection(key);
  assert.deepEqual([attempts, trouble, waitUntil, state], [0, null, null, "active"]);
});

test("a provider that can't renew is asked on demand every 15 s at most, and not before it wishes; what holds is given meanwhile", async (t) => {
  const { ctx, clock, provider, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  const first = (await stage.stored(key))?.accessToken;
  clock.advance(HOUR_MS - 100_000);
  provider.failNext("token", json(503, {}), 2);
  assert.equal(tokenOf(await ask(ctx, key)), first);
  assert.equal(tokenOf(await ask(ctx, key)), first);
  assert.equal(stage.refreshes(), 1);
  clock.advance(100_000 - 9_000);
  const refused = await ask(ctx, key);
  assert.deepEqual(refused, { kind: "unavailable", code: "server_error", retryAt: addMs(clock.now(), 15_000) });
  clock.advance(14_000);
  assert.equal((await ask(ctx, key)).kind, "unavailable");
  assert.equal(stage.refreshes(), 2);
  provider.failNext("token", json(429, {}, { "retry-after": "60" }));
  clock.advance(1_000);
  assert.equal((await ask(ctx, key)).kind, "unavailable");
  clock.advance(59_000);
  assert.equal((await ask(ctx, key)).kind, "unavailable");
  assert.equal(stage.refreshes(), 3);
  clock.advance(1_000);
  assert.equal((await ask(ctx, key)).kind, "token");
});

for (const [description, reason] of [
  ["Token has been expired or revoked.", "grant_dead"],
  ["reauth related error (invalid_rapt)", "reauth_required"],
]) {
  test(`after one attempt that is told "${description}" it is expired, the news waits once, and nobody asks again`, async (t) => {
    const { ctx, clock, provider, worker, ...stage } = await openStage(t, database.db);
    const key = await stage.connect();
    clock.advance(HOUR_MS);
    provider.failNext("token", json(400, { error: "invalid_grant", error_description: description }));
    const answers = await Promise.all([ask(ctx, key), ask(worker(), key), ask(ctx, key)]);
    for (const answer of answers) assert.deepEqual(answer, { kind: "gone", state: "expired", reason });
    await renewConnection(ctx, key, SWEEP);
    const { state, refreshAt, attempts } = await stage.connection(key);
    assert.deepEqual([state, refreshAt, attempts, stage.refreshes()], ["expired", null, 0, 1]);
    assert.deepEqual([await stage.news(key), await stage.outcomes(key)], [1, ["dead"]]);
  });
}

test("connections of tenants on their way out rest: nothing is asked, given or changed, and restoring brings them back", async (t) => {
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  const before = await stage.connection(key);
  for (const status of ["deprovisioning", "deleted"] as const) {
    await stage.setStatus(key, status);
    assert.deepEqual(await ask(ctx, key), { kind: "gone", state: "at-rest", reason: null });
    clock.advance(HOUR_MS);
    assert.equal((await renewConnection(ctx, key, SWEEP)).kind, "gone");
  }
  assert.deepEqual([await stage.connection(key), stage.refreshes()], [before, 0]);
  await stage.setStatus(key, "active");
  assert.equal((await ask(ctx, key)).kind, "token");
});

test("what was never connected, or was disconnected, gives no token, and nobody is asked for one", async (t) => {
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const key = await stage.connect({ state: "revoked", reason: "disconnected", refreshAt: null });
  clock.advance(HOUR_MS);
  assert.deepEqual(await ask(ctx, key), { kind: "gone", state: "revoked", reason: "disconnected" });
  await database.db.deleteFrom("connections").where("tenantId", "=", key.tenantId).execute();
  assert.deepEqual(await ask(ctx, key), { kind: "gone", state: "absent", reason: null });
  assert.equal(stage.refreshes(), 0);
});

test("what can't be renewed is given until it ends, and has to be connected again then", async (t) => {
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const key = await stage.connect({ hasRefreshToken: false, refreshAt: addMs(clock.now(), HOUR_MS) });
  clock.advance(HOUR_MS - 1_000);
  assert.equal((await renewConnection(ctx, key, SWEEP)).kind, "present");
  assert.equal(tokenOf(await ask(ctx, key)), (await stage.stored(key))?.accessToken);
  clock.advance(1_000);
  const over = { kind: "gone", state: "expired", reason: "not_renewable" };
  assert.deepEqual(await renewConnection(ctx, key, SWEEP), over);
  assert.deepEqual(await ask(ctx, key), over);
  assert.deepEqual([stage.refreshes(), await stage.news(key)], [0, 1]);
});

test("a token that lives for minutes is not renewed with every ask", async (t) => {
  const { ctx, clock, ...stage } = await openStage(t, database.db, { accessTokenSeconds: 100 });
  const key = await stage.connect();
  clock.advance(40_000);
  await ask(ctx, key);
  assert.equal(stage.refreshes(), 0);
  clock.advance(11_000);
  await ask(ctx, key);
  await ask(ctx, key);
  assert.equal(stage.refreshes(), 1);
});

test("tokens that are gone from the vault are a trouble that passes, not the end of a connection", async (t) => {
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  const name = connectionSecretName(key.tenantId, key.provider, (await stage.connection(key)).grantId);
  const kept = await ctx.vault.get(name);
  await ctx.vault.delete(name);
  assert.equal((await ask(ctx, key)).kind, "unavailable");
  clock.advance(HOUR_MS);
  const answer = await ask(ctx, key);
  assert.ok(answer.kind === "unavailable" && answer.code === "tokens_missing");
  assert.equal((await stage.connection(key)).state, "active");
  const version = await ctx.vault.set(name, kept ?? "");
  await database.db.updateTable("connections").set({ secretVersion: version }).execute();
  clock.advance(15_000);
  assert.equal((await ask(ctx, key)).kind, "token");
});

test("while the vault is away nobody is told more than to come again, and then it works again", async (t) => {
  const { clock, worker, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  let isAway = true;
  const away = <Result>(work: () => Promise<Result>): Promise<Result> =>
    isAway ? Promise.reject(new UpstreamError("vault_failed", "away", { service: "vault", retryable: true })) : work();
  const ctx = worker((vault) => ({
    ...vault,
    getNewest: (...args) => away(() => vault.getNewest(...args)),
    getVersion: (...args) => away(() => vault.getVersion(...args)),
  }));
  const retryAt = (ms: number) => ({ kind: "unavailable", code: "vault_failed", retryAt: addMs(clock.now(), ms) });
  assert.deepEqual(await ask(ctx, key), retryAt(10_000));
  clock.advance(HOUR_MS);
  assert.deepEqual(await ask(ctx, key), retryAt(15_000));
  assert.equal(stage.refreshes(), 0);
  isAway = false;
  clock.advance(15_000);
  assert.equal((await ask(ctx, key)).kind, "token");
});

test("nothing that is logged or recorded has a token in it", async (t) => {
  const { ctx, clock, provider, lines, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  clock.advance(HOUR_MS);
  provider.failNext("token", json(503, {}));
  await ask(ctx, key);
  clock.advance(MINUTE_MS);
  await ask(ctx, key);
  provider.endGrantsOf("1001");
  clock.advance(HOUR_MS);
  await ask(ctx, key);
  const { rows } = await database.pool.query("SELECT row_to_json(e)::text FROM connection_events AS e");
  const text = lines.join() + JSON.stringify(rows) + JSON.stringify(await stage.connection(key));
  assert.ok(!/(access|refresh)-[\w-]{20}/.test(text));
});
