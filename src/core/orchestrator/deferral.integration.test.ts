import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { sql } from "kysely";
import type { RuntimeDriver, Urgency } from "../adapters/runtime/runtime-driver.ts";
import { DeferredError, UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { getTenant } from "../tenants/tenants.ts";
import { createTestDatabase, type TestDatabase } from "../testing/database.ts";
import { convergeTenant, findRuntime, sleepTenant, sweepRuntimes, wakeTenant } from "./orchestrator.ts";
import { setUpOrchestrator } from "./test-setup.ts";

const MINUTE_MS = 60_000;

let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

const throttled = (afterMs: number) =>
  new DeferredError("arm_throttled", "Azure asks for fewer calls", { service: "azure", afterMs });
const down = () => new UpstreamError("down", "the platform is down", { service: "runtime", retryable: true });

/** Every step of a driver has to wait. */
function deferring(driver: RuntimeDriver, afterMs: number): RuntimeDriver {
  const later = () => Promise.reject(throttled(afterMs));
  return { ...driver, ensure: later, wake: later, sleep: later, remove: later };
}

async function priorityOf(id: TenantId): Promise<number | undefined> {
  const { rows } = await sql<{ priority: number }>`
    SELECT priority FROM graphile_worker.jobs WHERE key = ${`converge:${id}`}`.execute(database.db);
  return rows[0]?.priority;
}

test("what has to wait burns no attempt, shows why, and is asked again when the platform says", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  const ctx = { ...bench.ctx, runtimes: deferring(bench.driver, 7 * MINUTE_MS) };
  for (let run = 0; run < 20; run++) await bench.converge(id, ctx);
  const waiting = await findRuntime(database.db, id);
  assert.deepEqual([waiting?.attempts, waiting?.reason], [0, "Azure asks for fewer calls"]);
  assert.ok(Math.abs(((await bench.dueInMs(id)) ?? 0) - 7 * MINUTE_MS) < 5_000);
  await bench.settle(id);
  assert.equal((await getTenant(database.db, id)).status, "active");
  assert.equal((await findRuntime(database.db, id))?.reason, null);
});

test("what has to wait leaves the count of failures as it was, which back off", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  const attempts = async () => (await findRuntime(database.db, id))?.attempts;
  for (let attempt = 1; attempt <= 4; attempt++) {
    bench.driver.failNext("ensure", down());
    await bench.converge(id);
    assert.equal(await attempts(), attempt);
    bench.driver.failNext("ensure", throttled(1_000));
    await bench.converge(id);
    assert.equal(await attempts(), attempt);
  }
  bench.driver.failNext("ensure", down());
  await bench.converge(id);
  assert.ok(((await bench.dueInMs(id)) ?? 0) > 15_000);
});

test("a tenant that has to wait past its deadline is given up with what it waited for, at the deadline (F51)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  const ctx = { ...bench.ctx, runtimes: deferring(bench.driver, 45 * MINUTE_MS) };
  bench.clock.advance(20 * MINUTE_MS);
  await bench.converge(id, ctx);
  const dueInMs = (await bench.dueInMs(id)) ?? 0;
  assert.ok(dueInMs > 9 * MINUTE_MS && dueInMs <= 10 * MINUTE_MS, "not after the deadline");
  bench.clock.advance(10 * MINUTE_MS);
  await bench.converge(id, ctx);
  const { status, statusReason } = await getTenant(database.db, id);
  assert.deepEqual([status, statusReason], ["pending", "not healthy before the deadline: Azure asks for fewer calls"]);
});

test("a removal or a sleep that has to wait stays what it is, and is done later (F44)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const ctx = { ...bench.ctx, runtimes: deferring(bench.driver, 1_000) };
  for (const [to, then] of [
    ["suspended", "suspended"],
    ["deprovisioning", "deleted"],
  ] as const) {
    const id = await bench.newTenant();
    await bench.settle(id);
    await bench.move(
      id,
      to === "suspended" ? { to, suspendedBy: "operator", reason: "asked" } : { to, reason: "asked" },
    );
    await bench.converge(id, ctx);
    const runtime = await findRuntime(database.db, id);
    assert.deepEqual([runtime?.state, runtime?.reason], ["running", "Azure asks for fewer calls"]);
    assert.equal((await getTenant(database.db, id)).status, to);
    await bench.settle(id);
    assert.equal((await getTenant(database.db, id)).status, then);
    assert.notEqual((await bench.driver.inspect(id)).state, "running");
  }
});

test("a subscriber who waits for a runtime that sleeps goes before one who provisions, and both before repairs", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  const asked: (Urgency | undefined)[] = [];
  const { driver } = bench;
  const runtimes: RuntimeDriver = {
    ...driver,
    ensure: (spec, call) => {
      asked.push(call?.urgency);
      return driver.ensure(spec, call);
    },
    list: (call) => {
      asked.push(call?.urgency);
      return driver.list(call);
    },
  };
  const ctx = { ...bench.ctx, runtimes };
  const provisioning = await priorityOf(id);
  await bench.settle(id, () => bench.converge(id, ctx));
  assert.deepEqual(new Set(asked.splice(0)), new Set(["provision", "repair"]), "the last finds it running");
  await sleepTenant(ctx, id, "test");
  const repair = await priorityOf(id);
  bench.clock.advance(MINUTE_MS);
  await bench.settle(id, () => bench.converge(id, ctx));
  assert.equal((await driver.inspect(id)).state, "asleep");
  await wakeTenant(ctx, id);
  const waking = await priorityOf(id);
  driver.setHealthy(id, false);
  await bench.converge(id, ctx);
  await sweepRuntimes(ctx);
  assert.equal(await priorityOf(id), waking, "the sweep makes it no less urgent");
  await bench.converge(id, ctx);
  assert.deepEqual(asked, ["wake", "sweep", "wake"]);
  assert.deepEqual([waking, provisioning, repair], [-20, -10, 0]);
});

test("what does not come up in the time of a boot is looked at seldom, and no longer before those who are woken", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  await bench.settle(id);
  bench.driver.setHealthy(id, false);
  await bench.converge(id);
  bench.clock.advance(MINUTE_MS);
  await bench.converge(id);
  assert.ok(((await bench.dueInMs(id)) ?? 0) < 10_000);
  assert.equal(await priorityOf(id), -20);
  await sql`SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs`.execute(database.db);
  bench.clock.advance(5 * MINUTE_MS);
  await bench.converge(id);
  assert.ok(((await bench.dueInMs(id)) ?? 0) > 50_000);
  assert.equal(await priorityOf(id), 0);
});

test("what is under way on the platform is broken off with the job, a removal too", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  await bench.settle(id);
  const stopping = AbortSignal.abort(new Error("the daemon stops"));
  const driver: RuntimeDriver = {
    ...bench.driver,
    async sleep(tenantId, call) {
      call?.signal?.throwIfAborted();
      return bench.driver.sleep(tenantId, call);
    },
    async remove(tenantId, call) {
      call?.signal?.throwIfAborted();
      return bench.driver.remove(tenantId, call);
    },
  };
  const ctx = { ...bench.ctx, runtimes: driver };
  await bench.move(id, { to: "suspended", suspendedBy: "operator", reason: "asked" });
  await assert.rejects(convergeTenant(ctx, id, stopping), /the daemon stops/);
  await bench.move(id, { to: "deprovisioning", reason: "ended" });
  await assert.rejects(convergeTenant(ctx, id, stopping), /the daemon stops/);
  await bench.settle(id);
  assert.equal((await getTenant(database.db, id)).status, "deleted");
});
