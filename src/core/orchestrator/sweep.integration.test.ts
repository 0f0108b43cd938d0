import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { beforeEach, afterEach, test } from "node:test";
import { sql } from "kysely";
import { tenantSecretName } from "../adapters/vault/vault.ts";
import { DeferredError, UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { getTenant } from "../tenants/tenants.ts";
import { createTestDatabase, type TestDatabase } from "../testing/database.ts";
import { findCredentials, readSweeps, type SweepResult, sweepRuntimes } from "./orchestrator.ts";
import { computeSpec } from "./spec.ts";
import { keepTurn } from "./sweep-store.ts";
import { type Bench, setUpOrchestrator } from "./test-setup.ts";

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database[Symbol.asyncDispose]());

async function newActive(bench: Bench): Promise<TenantId> {
  const id = await bench.newTenant();
  await bench.settle(id);
  return id;
}

/** What sweeps tell of themselves. */
function watched(bench: Bench) {
  const seen: [SweepResult, ...string[]][] = [];
  const observe = (result: SweepResult, drift: readonly { kind: string }[]) =>
    void seen.push([result, ...drift.map(({ kind }) => kind)]);
  return { seen, ctx: { ...bench.ctx, observe } };
}

test("what was changed by hand behind its back is found and mended, asleep or awake", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { seen, ctx } = watched(bench);
  const [scaled, moved, gone, asleep] = await Promise.all([1, 2, 3, 4].map(() => newActive(bench)));
  assert.ok(scaled && moved && gone && asleep);
  const { driver } = bench;
  await driver.ensure(computeSpec(await getTenant(database.db, moved), { ...ctx.fleet, image: "elsewhere:1" }));
  await driver.remove(gone);
  await driver.sleep(asleep);
  let isScaled = true;
  const runtimes = {
    ...driver,
    list: async () =>
      (await driver.list()).map((one) => (one.tenantId === scaled && isScaled ? { ...one, drift: ["scale"] } : one)),
  };
  assert.equal(await sweepRuntimes({ ...ctx, runtimes }), 4);
  assert.deepEqual(seen.splice(0).flat().toSorted(), ["asleep", "done", "image", "missing", "tampered"]);
  const { drift, problem, ageSeconds } = await readSweeps(database.db);
  assert.deepEqual(drift, { asleep: 1, image: 1, missing: 1, tampered: 1 });
  assert.equal(problem, null);
  assert.ok(ageSeconds !== null && ageSeconds >= 0 && ageSeconds < 60);
  isScaled = false;
  for (const id of [scaled, moved, gone, asleep]) await bench.settle(id);
  assert.equal(await sweepRuntimes({ ...ctx, runtimes }), 0);
  assert.deepEqual(seen, [["done"]]);
});

test("a job that was lost is made again, of a tenant that provisions or is removed (F51)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const [provisioning, leaving] = [await bench.newTenant(), await newActive(bench)];
  await bench.move(leaving, { to: "deprovisioning", reason: "asked" });
  await sql`SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs`.execute(database.db);
  assert.equal(await sweepRuntimes(bench.ctx), 2);
  await bench.settle(provisioning);
  await bench.settle(leaving);
  assert.equal((await getTenant(database.db, provisioning)).status, "active");
  assert.equal((await getTenant(database.db, leaving)).status, "deleted");
});

test("what runs without a tenant, or of a deleted one, is listed and never touched (F43)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const deleted = await newActive(bench);
  const unknown = randomUUID() as TenantId;
  const spec = computeSpec(await getTenant(database.db, deleted), bench.ctx.fleet);
  await bench.move(deleted, { to: "deprovisioning", reason: "asked" });
  await bench.settle(deleted);
  bench.clock.advance(1_000);
  for (const tenantId of [deleted, unknown]) await bench.driver.ensure({ ...spec, tenantId });
  assert.equal(await sweepRuntimes(bench.ctx), 0);
  const { orphans, runtimes } = await readSweeps(database.db);
  assert.deepEqual(
    new Set(orphans.map(({ tenantId, state }) => `${tenantId} ${state}`)),
    new Set([`${deleted} running`, `${unknown} running`]),
  );
  assert.equal(runtimes, 2);
  for (const tenantId of [deleted, unknown]) assert.equal((await bench.driver.inspect(tenantId)).state, "running");
});

test("a platform that can't be asked, or asks to wait, is recorded, and the next sweep tries again", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { seen, ctx } = watched(bench);
  await sweepRuntimes(ctx);
  const { succeededAt } = await readSweeps(database.db);
  bench.driver.failNext("list", new UpstreamError("down", "it is down", { service: "azure", retryable: true }));
  bench.driver.failNext("list", new DeferredError("busy", "wait a minute", { service: "azure", afterMs: 60_000 }));
  assert.equal(await sweepRuntimes(ctx), undefined);
  assert.equal((await readSweeps(database.db)).problem, "it is down");
  assert.equal(await sweepRuntimes(ctx), undefined);
  const state = await readSweeps(database.db);
  assert.deepEqual([state.problem, state.succeededAt], ["wait a minute", succeededAt]);
  bench.driver.failNext("list", new TypeError("a bug"));
  await assert.rejects(sweepRuntimes(ctx), { message: "a bug" });
  assert.equal(await sweepRuntimes(ctx), 0);
  assert.equal((await readSweeps(database.db)).problem, null);
  assert.deepEqual(seen, [["done"], ["failed"], ["deferred"], ["failed"], ["done"]]);
});

test("one sweep at a time, however long it takes; a turn that ran out is another's (F84, F89)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { seen, ctx } = watched(bench);
  const entered = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  const list = async () => {
    entered.resolve();
    await release.promise;
    return bench.driver.list();
  };
  const slow = sweepRuntimes({ ...ctx, runtimes: { ...bench.driver, list } });
  await entered.promise;
  assert.equal(await sweepRuntimes(ctx), undefined);
  assert.deepEqual(seen, [["busy"]]);
  await sql`UPDATE fleet_sweeps SET lease_until = now() - interval '1 second'`.execute(database.db);
  assert.equal(await sweepRuntimes(ctx), 0);
  const { endedAt } = await readSweeps(database.db);
  release.resolve();
  await slow;
  assert.deepEqual((await readSweeps(database.db)).endedAt, endedAt, "what lost its turn records nothing");
  const { rows } = await sql<{ lease: string | null }>`SELECT lease FROM fleet_sweeps`.execute(database.db);
  assert.deepEqual(rows, [{ lease: null }]);
  assert.equal(await keepTurn(database.db, randomUUID(), 1_000), false);
});

test("a secret that is gone from the vault is minted again, and the runtime is started with it", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { seen, ctx } = watched(bench);
  const id = await newActive(bench);
  const other = await newActive(bench);
  const name = tenantSecretName(id, "model-key", 1);
  const before = [await bench.vault.get(name), await findCredentials(database.db, id, "model-key")];
  await bench.vault.delete(name);
  const steps: string[] = [];
  const { driver } = bench;
  const runtimes = {
    ...driver,
    sleep: (tenantId: TenantId) => driver.sleep(tenantId).finally(() => steps.push("sleep")),
    wake: (tenantId: TenantId) => driver.wake(tenantId).finally(() => steps.push("wake")),
  };
  assert.equal(await sweepRuntimes(ctx), 1);
  assert.deepEqual(seen, [["done", "secrets"]]);
  await bench.settle(id, () => bench.converge(id, { ...bench.ctx, runtimes }));
  await bench.settle(other, () => bench.converge(other, { ...bench.ctx, runtimes }));
  assert.deepEqual(steps, ["sleep", "wake"]);
  assert.equal((await driver.inspect(id)).state, "running");
  const now = [await bench.vault.get(name), await findCredentials(database.db, id, "model-key")];
  assert.notEqual(now[0], undefined);
  assert.notDeepEqual(now, before);
});
