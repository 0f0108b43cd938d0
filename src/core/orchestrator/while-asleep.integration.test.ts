import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { ConflictError, TimeoutError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { createTestDatabase, type TestDatabase } from "../testing/database.ts";
import { getTenant } from "../tenants/tenants.ts";
import { suspendTenant, wakeTenant } from "./orchestrator.ts";
import { type Bench, setUpOrchestrator } from "./test-setup.ts";
import { type Wait, whileAsleep } from "./while-asleep.ts";

let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

const untilStopped = new AbortController().signal;
const WAIT: Wait = { reason: "test", timeoutMs: 60_000, signal: untilStopped, check() {}, onWait() {} };

/** An active tenant, and work that is refused while its runtime is up, as a copy of its state is. */
async function openStage(bench: Bench) {
  const activity = new Map<TenantId, Date>();
  const ctx = { ...bench.ctx, lastActivity: async () => activity };
  const id = await bench.newTenant({ billingExempt: true });
  await bench.move(id, { to: "provisioning", reason: "test" });
  await bench.settle(id);
  const settle = () => bench.settle(id, () => bench.converge(id, ctx));
  const isMeantToSleep = async () => (await getTenant(database.db, id)).hibernatedAt !== null;
  const until = async (isSo: () => Promise<boolean>) => {
    while (!(await isSo())) await new Promise(setImmediate);
  };
  let attempts = 0;
  const work = async <Result>(done: () => Promise<Result>): Promise<Result> => {
    attempts += 1;
    if ((await bench.driver.inspect(id)).state !== "asleep") throw new ConflictError("runtime_awake", "awake");
    return done();
  };
  return { ctx, id, activity, settle, isMeantToSleep, until, work, attempts: () => attempts };
}

test("an awake runtime is put to sleep for the work and woken after it", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, settle, isMeantToSleep, until, work } = await openStage(bench);
  const done = whileAsleep(ctx, id, WAIT, () => work(async () => (await bench.driver.inspect(id)).state));
  await until(isMeantToSleep);
  bench.clock.advance(20_000);
  await settle();
  assert.deepEqual(await done, { result: "asleep", wasAwake: true });
  await settle();
  assert.equal((await bench.driver.inspect(id)).state, "running");
});

test("a runtime that sleeps is left asleep, and so is a suspended one once it is down", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, settle, work } = await openStage(bench);
  await suspendTenant(ctx, id, "test");
  const done = whileAsleep(ctx, id, WAIT, () => work(async () => "copied"));
  await settle();
  assert.deepEqual(await done, { result: "copied", wasAwake: false });
  await settle();
  assert.equal((await bench.driver.inspect(id)).state, "asleep");
});

test("it is woken whatever became of the work: failed, interrupted, or never begun", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, settle, isMeantToSleep, until, work } = await openStage(bench);
  const broken = new Error("no space");
  const failed = assert.rejects(
    whileAsleep(ctx, id, WAIT, () => work(() => Promise.reject(broken))),
    broken,
  );
  await until(isMeantToSleep);
  bench.clock.advance(20_000);
  await settle();
  await failed;
  assert.equal(await isMeantToSleep(), false);
  await settle();

  const stopping = new AbortController();
  const interrupted = assert.rejects(
    whileAsleep(ctx, id, { ...WAIT, signal: stopping.signal }, () => work(async () => "copied")),
    { name: "AbortError" },
  );
  await until(isMeantToSleep);
  stopping.abort();
  await interrupted;
  assert.equal(await isMeantToSleep(), false);

  await assert.rejects(
    whileAsleep(ctx, id, { ...WAIT, timeoutMs: 300 }, () => work(async () => "copied")),
    TimeoutError,
  );
  assert.equal(await isMeantToSleep(), false);
  await settle();
  assert.equal((await bench.driver.inspect(id)).state, "running");
});

test("who writes meanwhile is served before it is put to sleep again", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, activity, settle, isMeantToSleep, until, work, attempts } = await openStage(bench);
  const done = whileAsleep(ctx, id, WAIT, () => work(async () => "copied"));
  await until(isMeantToSleep);
  bench.clock.advance(3_000);
  await wakeTenant(ctx, id);
  await settle();
  activity.set(id, bench.clock.now());
  bench.clock.advance(19_999);
  const seen = attempts();
  await until(async () => attempts() > seen + 1);
  assert.equal(await isMeantToSleep(), false, "what waited is still being delivered");
  bench.clock.advance(1);
  await until(isMeantToSleep);
  bench.clock.advance(60_000);
  await settle();
  assert.deepEqual(await done, { result: "copied", wasAwake: true });
});

test("what the tenant's status forbids ends it, also while it waits", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, isMeantToSleep, until, work } = await openStage(bench);
  const refused = new ConflictError("status_passing", "not now");
  const check: Wait["check"] = ({ status }) => {
    if (status !== "active") throw refused;
  };
  const done = assert.rejects(
    whileAsleep(ctx, id, { ...WAIT, check }, () => work(async () => "copied")),
    refused,
  );
  await until(isMeantToSleep);
  await bench.move(id, { to: "deprovisioning", reason: "test" });
  await done;
  assert.equal((await getTenant(database.db, id)).status, "deprovisioning");
});
