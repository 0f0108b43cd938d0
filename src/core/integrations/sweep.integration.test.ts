import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { ProviderId } from "../platform/ids.ts";
import { addMs } from "../platform/clock.ts";
import { createTestDatabase } from "../testing/database.ts";
import { startOAuthProvider } from "../testing/fakes/oauth/oauth-server.ts";
import { sweepConnections } from "./sweep.ts";
import { HOUR_MS, LOOPBACK, NEVER, openStage, providersOf, tokenOf } from "./test-setup.ts";
import { ensureToken } from "./ensure-token.ts";
import { tryLease } from "./lease.ts";
import * as store from "./store.ts";
import { listEvents, pruneConnectionEvents, recordEvent } from "./events.ts";
import { stateOf } from "./connection.ts";
import { readConnectionTotals } from "./totals.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

const FAST = { startsPerSecond: 1_000, forMs: 30_000, atOnce: 8 };
const SLOW = "slow" as ProviderId;
const NOTHING = { renewed: 0, failed: 0, ended: 0, untouched: 0, isComplete: true };
const clear = () => database.pool.query("TRUNCATE tenants, client_troubles CASCADE");

test("what is due is renewed once, the longest due first; what is not, or rests, or is over, is left alone", async (t) => {
  await clear();
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const due = (minutes: number) => ({ refreshAt: addMs(clock.now(), -minutes * 60_000) });
  const [second, first, third] = [
    await stage.connect(due(5)),
    await stage.connect(due(9)),
    await stage.connect(due(0)),
  ];
  const resting = await stage.connect(due(20));
  await stage.setStatus(resting, "deleted");
  const others = [
    await stage.connect(),
    await stage.connect({ ...due(9), state: "expired" }),
    await stage.connect({ ...due(9), state: "revoked" }),
    resting,
  ];
  assert.deepEqual(await sweepConnections(ctx, NEVER, { ...FAST, atOnce: 1 }), { ...NOTHING, renewed: 3 });
  const { rows } = await database.pool.query<{ tenant: string }>(
    "SELECT tenant_id AS tenant FROM connection_events ORDER BY id",
  );
  assert.deepEqual(
    rows.map(({ tenant }) => tenant),
    [first, second, third].map(({ tenantId }) => tenantId),
  );
  for (const key of others) assert.equal((await stage.connection(key)).refreshedAt, null);
  assert.deepEqual(await sweepConnections(ctx, NEVER, FAST), NOTHING);
});

test("two sweeps that meet renew everything once (F84)", async (t) => {
  await clear();
  const { ctx, clock, provider, worker, ...stage } = await openStage(t, database.db);
  for (let nth = 0; nth < 12; nth += 1) await stage.connect({ refreshAt: clock.now() });
  const counts = await Promise.all([ctx, worker()].map((each) => sweepConnections(each, NEVER, FAST)));
  assert.equal(
    counts.map(({ renewed }) => renewed).reduce((sum, count) => sum + count),
    12,
  );
  assert.equal(stage.refreshes(), 12);
  assert.ok(provider.grants.every(({ reuses }) => reuses === 0));
});

test("a connection that another is at is left to it, and a sweep waits for nobody", async (t) => {
  await clear();
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const key = await stage.connect({ refreshAt: clock.now() });
  await tryLease(ctx, key, async () => ({
    counts: assert.deepEqual(await sweepConnections(ctx, NEVER, FAST), { ...NOTHING, untouched: 1 }),
  }));
  assert.equal((await sweepConnections(ctx, NEVER, FAST)).renewed, 1);
});

test("a provider whose answers take long does not hold up the others", async (t) => {
  await clear();
  const { ctx, clock, provider, ...stage } = await openStage(t, database.db);
  const slowOne = await startOAuthProvider({ clock });
  t.after(() => slowOne.close());
  const [[slow], [loopback]] = [providersOf(slowOne, [SLOW]).list(), ctx.providers.list()];
  assert.ok(slow !== undefined && loopback !== undefined);
  const providers = { list: () => [slow, loopback], find: (id: string) => (id === SLOW ? slow : loopback) };
  for (let nth = 0; nth < 12; nth += 1) {
    await stage.connect({ refreshAt: clock.now() });
    await stage.connect({ refreshAt: clock.now(), provider: SLOW });
  }
  const holds = Array.from({ length: 4 }, () => slowOne.hold("token", "before"));
  let done = 0;
  const othersDone = Promise.withResolvers<void>();
  const observe = () => {
    done += 1;
    if (done === 12) othersDone.resolve();
  };
  const sweep = sweepConnections({ ...ctx, providers, observe }, NEVER, { ...FAST, atOnce: 4 });
  await othersDone.promise;
  assert.deepEqual([provider.requests.length, slowOne.requests.length], [12, 4]);
  // Their tokens are of the other provider, which the slow one does not know.
  for (const { release } of holds) release();
  assert.deepEqual(await sweep, { ...NOTHING, renewed: 12, ended: 12 });
});

test("a sweep keeps to its rate, and begins nothing when its time is over or it is to end", async (t) => {
  await clear();
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  for (let nth = 0; nth < 12; nth += 1) await stage.connect({ refreshAt: clock.now() });
  const paced = await sweepConnections(ctx, NEVER, { startsPerSecond: 20, forMs: 190, atOnce: 8 });
  assert.ok(paced.renewed <= 4 && !paced.isComplete, JSON.stringify(paced));
  const stopping = new AbortController();
  const stopped = sweepConnections(ctx, stopping.signal, { ...FAST, startsPerSecond: 10, atOnce: 2 });
  stopping.abort();
  assert.equal((await stopped).isComplete, false);
  const rest = await sweepConnections(ctx, NEVER, FAST);
  assert.ok(rest.isComplete && stage.refreshes() === 12);
});

test("while our client is refused a sweep tries one connection a minute, and all of them once it is taken", async (t) => {
  await clear();
  const { ctx, clock, provider, ...stage } = await openStage(t, database.db);
  for (let nth = 0; nth < 30; nth += 1) await stage.connect({ refreshAt: clock.now() });
  provider.removeClient("loopback-client");
  for (let minute = 0; minute < 5; minute += 1) {
    await sweepConnections(ctx, NEVER, { ...FAST, atOnce: 1 });
    clock.advance(60_000);
  }
  // The first, the one that saw whether it was the first's own fault, and one a minute.
  assert.equal(stage.refreshes(), 6);
  const { refusedClients } = await readConnectionTotals(ctx);
  assert.deepEqual(refusedClients, [LOOPBACK]);
  provider.setClient({ id: "loopback-client", secret: "loopback-client-secret" });
  const probe = await sweepConnections(ctx, NEVER, FAST);
  assert.equal(probe.renewed, 1);
  assert.equal((await sweepConnections(ctx, NEVER, FAST)).renewed, 29);
  const totals = await readConnectionTotals(ctx);
  const states = [{ provider: LOOPBACK, state: "active", count: 30 }];
  assert.deepEqual(totals, { byState: states, oldestDueAt: null, refusedClients: [] });
});

test("that our client is refused is forgotten with the last connection that is concerned", async (t) => {
  await clear();
  const { ctx, clock, provider, ...stage } = await openStage(t, database.db);
  const keys = [await stage.connect({ refreshAt: clock.now() }), await stage.connect()] as const;
  provider.removeClient("loopback-client");
  await sweepConnections(ctx, NEVER, FAST);
  const refused = async () => (await readConnectionTotals(ctx)).refusedClients;
  await store.update(database.db, keys[0], { state: "revoked" });
  await sweepConnections(ctx, NEVER, FAST);
  assert.deepEqual(await refused(), [LOOPBACK]);
  await stage.setStatus(keys[1], "deleted");
  await sweepConnections(ctx, NEVER, FAST);
  assert.deepEqual(await refused(), []);
});

test("totals tell what expires, what is overdue and leave out what rests", async (t) => {
  await clear();
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const long = addMs(clock.now(), -HOUR_MS);
  await stage.connect({ refreshAt: long, refreshedAt: long, accessExpiresAt: addMs(clock.now(), 60_000) });
  await stage.setStatus(await stage.connect({ refreshAt: addMs(long, -HOUR_MS) }), "deprovisioning");
  await stage.connect({ state: "expired" });
  const { byState, oldestDueAt } = await readConnectionTotals(ctx);
  assert.deepEqual(byState.map(({ state, count }) => `${state} ${count}`).toSorted(), ["expired 1", "expiring 1"]);
  assert.deepEqual(oldestDueAt, long);
  // Here, nobody could renew it.
  const elsewhere = { list: () => [], find: () => undefined };
  assert.equal((await readConnectionTotals({ ...ctx, providers: elsewhere })).oldestDueAt, null);
});

test("a token that lives for ten minutes expires in the second half of its life, not from its first moment on", async (t) => {
  await clear();
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const lives = { refreshedAt: clock.now(), accessExpiresAt: addMs(clock.now(), 600_000) };
  const key = await stage.connect(lives);
  const states = async () => {
    const [{ state } = {}] = (await readConnectionTotals(ctx)).byState;
    return [state, stateOf(await stage.connection(key), clock.now())];
  };
  clock.advance(299_000);
  assert.deepEqual(await states(), ["active", "active"]);
  clock.advance(2_000);
  assert.deepEqual(await states(), ["expiring", "expiring"]);
});

test("what was done is forgotten after two days, what failed after 30", async (t) => {
  await clear();
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  const day = 24 * HOUR_MS;
  const past = (days: number) => addMs(clock.now(), -days * day);
  const event = { ...key, kind: "refresh", askedBy: "sweep", durationMs: 1 } as const;
  for (const days of [31, 29, 3, 1]) {
    await recordEvent(database.db, { ...event, at: past(days), outcome: "done" });
    await recordEvent(database.db, { ...event, at: past(days), outcome: "unavailable" });
  }
  await pruneConnectionEvents(ctx, NEVER);
  const kept = (await listEvents(database.db, key, 10)).map(({ outcome, at }) => `${outcome} ${at.toISOString()}`);
  assert.deepEqual(
    kept,
    [29, 3]
      .map((days) => `unavailable ${past(days).toISOString()}`)
      .concat([`done ${past(1).toISOString()}`, `unavailable ${past(1).toISOString()}`]),
  );
});

test("a token of which nobody says how long it holds is renewed as one that holds for an hour", async (t) => {
  await clear();
  const { ctx, clock, provider, ...stage } = await openStage(t, database.db, { rotates: false });
  const key = await stage.connect({ refreshAt: clock.now() });
  const body = JSON.stringify({ access_token: "unsaid", token_type: "bearer", expires_in: 0 });
  provider.failNext("token", { status: 200, headers: { "content-type": "application/json" }, body });
  await sweepConnections(ctx, NEVER, FAST);
  const ask = { askedBy: "runtime", minRemainingMs: 120_000, signal: NEVER } as const;
  const answer = await ensureToken(ctx, key, ask);
  assert.partialDeepStrictEqual(answer, { kind: "token", accessToken: "unsaid", expiresAt: null, renewed: false });
  clock.advance(HOUR_MS);
  assert.deepEqual(await sweepConnections(ctx, NEVER, FAST), { ...NOTHING, renewed: 1 });
  assert.ok(provider.holderOf(tokenOf(await ensureToken(ctx, key, ask))) !== undefined);
});

test("one who waits for a token while a sweep is at it gets what the sweep got", async (t) => {
  await clear();
  const { ctx, clock, provider, worker, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  clock.advance(HOUR_MS);
  const hold = provider.hold("token", "before");
  const sweep = sweepConnections(ctx, NEVER, FAST);
  await hold.reached;
  const asked = ensureToken(worker(), key, { askedBy: "runtime", minRemainingMs: 120_000, signal: NEVER });
  hold.release();
  assert.equal(tokenOf(await asked), (await stage.stored(key))?.accessToken);
  assert.equal((await sweep).renewed, 1);
  assert.equal(stage.refreshes(), 1);
});
