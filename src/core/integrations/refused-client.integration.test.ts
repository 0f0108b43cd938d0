import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { addMs } from "../platform/clock.ts";
import type { OAuthFault } from "../testing/fakes/oauth/faults.ts";
import { createTestDatabase } from "../testing/database.ts";
import { ensureToken } from "./ensure-token.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { renewConnection } from "./refresh.ts";
import * as store from "./store.ts";
import type { ConnectionKey } from "./store.ts";
import { HOUR_MS, NEVER, openStage } from "./test-setup.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());
// What a provider said of our client concerns all its connections.
const forget = () => database.db.deleteFrom("clientTroubles").execute();

const MINUTE_MS = 60_000;
const SWEEP = { askedBy: "sweep", minRemainingMs: 0 } as const;

const ask = (ctx: IntegrationsContext, key: ConnectionKey) =>
  ensureToken(ctx, key, { askedBy: "runtime", minRemainingMs: 120_000, signal: NEVER });
const refusal = (error: string, status = 401): OAuthFault => ({
  status,
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ error }),
});

test("a client that is refused disconnects nobody and storms nobody, and all come back by themselves", async (t) => {
  const { ctx, clock, provider, worker, ...stage } = await openStage(t, database.db);
  t.after(forget);
  const keys = await Promise.all(Array.from({ length: 12 }, () => stage.connect()));
  clock.advance(HOUR_MS);
  provider.failNext("token", refusal("invalid_client"), 100);
  for (let minute = 0; minute < 10; minute += 1) {
    for (const key of keys) assert.equal((await ask(ctx, key)).kind, "unavailable");
    await Promise.all(keys.map((key) => renewConnection(worker(), key, SWEEP)));
    // The first, and then one a minute.
    assert.ok(stage.refreshes() <= minute + 2, `${stage.refreshes()} in minute ${minute}`);
    clock.advance(MINUTE_MS);
  }
  const states = (await Promise.all(keys.map((key) => stage.connection(key)))).map(({ state }) => state);
  assert.deepEqual(new Set(states), new Set(["error", "active"]));
  assert.equal((await stage.connection(keys[0] ?? assert.fail())).reason, "client_refused");
  provider.clearFaults();
  for (const key of keys) await renewConnection(ctx, key, SWEEP);
  assert.deepEqual(await store.listClientTroubles(database.db), []);
  for (const key of keys) await renewConnection(ctx, key, SWEEP);
  for (const key of keys) {
    const { state, reason } = await stage.connection(key);
    assert.deepEqual([state, reason, (await ask(ctx, key)).kind], ["active", null, "token"]);
    assert.equal(await stage.news(key), 0);
  }
});

test("a grant that is called dead shows that our client is taken, too", async (t) => {
  const { ctx, clock, provider, ...stage } = await openStage(t, database.db);
  t.after(forget);
  const keys = [await stage.connect(), await stage.connect()] as const;
  clock.advance(HOUR_MS);
  provider.failNext("token", refusal("invalid_client"), 2);
  for (const key of keys) assert.equal((await ask(ctx, key)).kind, "unavailable");
  clock.advance(MINUTE_MS);
  provider.failNext("token", refusal("invalid_grant", 400));
  assert.equal((await ask(ctx, keys[0])).kind, "gone");
  assert.deepEqual(await store.listClientTroubles(database.db), []);
  assert.equal((await ask(ctx, keys[1])).kind, "token");
});

test("of many who ask at once while our client is refused, one tries, and the others hear when it is their turn", async (t) => {
  const { ctx, clock, provider, worker, ...stage } = await openStage(t, database.db);
  t.after(forget);
  const keys = await Promise.all(Array.from({ length: 8 }, () => stage.connect()));
  clock.advance(HOUR_MS);
  provider.failNext("token", refusal("invalid_client"), 100);
  for (const key of keys) await ask(ctx, key);
  clock.advance(MINUTE_MS);
  const before = stage.refreshes();
  await Promise.all(keys.map((key, nth) => ask(nth % 2 === 0 ? ctx : worker(), key)));
  assert.equal(stage.refreshes(), before + 1);
  const probeAt = addMs(clock.now(), MINUTE_MS);
  clock.advance(MINUTE_MS / 2);
  for (const key of keys.slice(2))
    assert.deepEqual(await ask(ctx, key), { kind: "unavailable", code: "client_refused", retryAt: probeAt });
});

test("one connection for which our client is refused holds up the others for one try", async (t) => {
  const { ctx, clock, provider, ...stage } = await openStage(t, database.db);
  t.after(forget);
  const [odd, other] = [await stage.connect(), await stage.connect()];
  clock.advance(HOUR_MS);
  provider.failNext("token", refusal("unauthorized_client"));
  assert.equal((await ask(ctx, odd)).kind, "unavailable");
  assert.equal((await ask(ctx, other)).kind, "token");
  assert.deepEqual((await stage.connection(odd)).refreshAt, clock.now());
});
