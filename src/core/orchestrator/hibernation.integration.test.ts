import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import type { TenantId } from "../platform/ids.ts";
import { createTestDatabase, type TestDatabase } from "../testing/database.ts";
import { getTenant, linkChat, listTenantEvents } from "../tenants/tenants.ts";
import {
  findRuntime,
  resumeTenant,
  sleepTenant,
  suspendTenant,
  sweepIdle,
  sweepRuntimes,
  wakeTenant,
} from "./orchestrator.ts";
import { computeSpec } from "./spec.ts";
import { type Bench, setUpOrchestrator } from "./test-setup.ts";

const HOUR_MS = 3_600_000;
let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

/** An active tenant, and what is known of everybody's activity. */
async function openStage(bench: Bench) {
  const activity = new Map<TenantId, Date>();
  const ctx = { ...bench.ctx, lastActivity: async () => activity, idleMinutes: 120 };
  const id = await bench.newTenant({ billingExempt: true });
  await bench.move(id, { to: "provisioning", reason: "test" });
  await bench.settle(id);
  const state = async () => {
    const { address } = (await findRuntime(database.db, id)) ?? {};
    return { runs: (await bench.driver.inspect(id)).state, reachable: address != null };
  };
  const converge = () => bench.converge(id, ctx);
  /** All of what waits, once the quiet time is over. */
  const settle = async () => {
    bench.clock.advance(20_000);
    await bench.settle(id, converge);
  };
  return { ctx, id, activity, state, converge, settle };
}

const AWAKE = { runs: "running", reachable: true };
const ASLEEP = { runs: "asleep", reachable: false };

test("what is decided to sleep is not delivered to from that moment, sleeps when nothing was under way, and is woken", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, state, converge, settle } = await openStage(bench);
  assert.deepEqual(await state(), AWAKE);
  await sleepTenant(ctx, id, "test");
  await sleepTenant(ctx, id, "again");
  assert.deepEqual(await state(), { runs: "running", reachable: false });
  await converge();
  assert.equal((await state()).runs, "running", "a delivery may be under way");
  await settle();
  assert.deepEqual(await state(), ASLEEP);
  assert.equal((await getTenant(database.db, id)).status, "active");
  await wakeTenant(ctx, id);
  await bench.settle(id, converge);
  assert.deepEqual(await state(), AWAKE);
  assert.equal((await getTenant(database.db, id)).hibernatedAt, null);
  const actions = (await listTenantEvents(database.db, id, 50)).map(({ action }) => action);
  assert.equal(actions.filter((action) => action === "tenant.sleep").length, 1);
});

test("an update that was under way when it was decided keeps the runtime up: none is stranded", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, activity, state, settle } = await openStage(bench);
  await sleepTenant(ctx, id, "test");
  bench.clock.advance(3_000);
  activity.set(id, bench.clock.now());
  await settle();
  assert.deepEqual(await state(), AWAKE);
});

test("what it took in just before is not cut off: it is stopped a minute after its last sign of life, or stays up", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, activity, state, converge } = await openStage(bench);
  activity.set(id, bench.clock.now());
  bench.clock.advance(5_000);
  await sleepTenant(ctx, id, "test");
  bench.clock.advance(54_999);
  await converge();
  assert.equal((await state()).runs, "running");
  bench.clock.advance(1);
  await converge();
  assert.deepEqual(await state(), ASLEEP);

  await wakeTenant(ctx, id);
  await bench.settle(id, converge);
  activity.set(id, bench.clock.now());
  bench.clock.advance(5_000);
  await sleepTenant(ctx, id, "test");
  bench.clock.advance(30_000);
  activity.set(id, bench.clock.now());
  bench.clock.advance(30_000);
  await bench.settle(id, converge);
  assert.deepEqual(await state(), AWAKE);
});

test("a message that comes while it is being decided has it stay up", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, state, settle } = await openStage(bench);
  await sleepTenant(ctx, id, "test");
  bench.clock.advance(3_000);
  await wakeTenant(ctx, id);
  await settle();
  assert.deepEqual(await state(), AWAKE);
});

test("what has done nothing for the idle time sleeps, of the tier that does; whatever it did counts", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, activity, state, settle } = await openStage(bench);
  const isMeantToSleep = async () => {
    await sweepIdle(ctx);
    return (await getTenant(database.db, id)).hibernatedAt !== null;
  };
  bench.clock.advance(2 * HOUR_MS - 1);
  assert.equal(await isMeantToSleep(), false);
  bench.clock.advance(1);
  activity.set(id, new Date(bench.clock.now().getTime() - HOUR_MS));
  assert.equal(await isMeantToSleep(), false);
  bench.clock.advance(HOUR_MS);
  await database.db.updateTable("tenants").set({ tier: "plus" }).where("id", "=", id).execute();
  assert.equal(await isMeantToSleep(), false);
  await database.db.updateTable("tenants").set({ tier: "basic" }).where("id", "=", id).execute();
  assert.equal(await isMeantToSleep(), true);
  await settle();
  assert.deepEqual(await state(), ASLEEP);
});

test("a suspension puts it to sleep, and resuming wakes it, asleep before or not (F54)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, state, settle } = await openStage(bench);
  await sleepTenant(ctx, id, "test");
  await settle();
  await suspendTenant(ctx, id, "test");
  await settle();
  assert.deepEqual(await state(), ASLEEP);
  await assert.rejects(sleepTenant(ctx, id, "test"), { code: "not_active" });
  await wakeTenant(ctx, id);
  await settle();
  assert.deepEqual(await state(), ASLEEP, "a suspended one is not woken");
  await resumeTenant(ctx, id, "test");
  await settle();
  assert.deepEqual(await state(), AWAKE);
});

test("what sleeps becomes what it should be without being woken, and is that when a message wakes it (F39, F40)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, id, state, converge, settle } = await openStage(bench);
  await sleepTenant(ctx, id, "test");
  await settle();
  const { driver } = bench;
  let wakes = 0;
  const counting = {
    ...ctx,
    runtimes: { ...driver, wake: (one: TenantId) => driver.wake(one).finally(() => wakes++) },
  };
  await linkChat(ctx, id, { chatId: 7001, userId: 7001, username: undefined });
  await bench.settle(id, () => bench.converge(id, counting));
  assert.deepEqual([await state(), wakes], [ASLEEP, 0]);
  const { hash } = computeSpec(await getTenant(database.db, id), ctx.fleet);
  assert.equal((await driver.inspect(id)).specHash, hash);
  await driver.remove(id);
  await sweepRuntimes(ctx);
  await bench.settle(id, () => bench.converge(id, counting));
  assert.deepEqual([await state(), wakes], [ASLEEP, 0], "one that had gone is made again");
  await wakeTenant(ctx, id);
  await bench.settle(id, converge);
  assert.deepEqual(await state(), AWAKE);
  assert.equal((await findRuntime(database.db, id))?.allowedUserId, 7001);
});
