import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { sql } from "kysely";
import { TENANT_SECRETS, tenantSecretName, tenantSecretPrefix } from "../adapters/vault/vault.ts";
import type { TenantId } from "../platform/ids.ts";
import { getTenant, listTenantEvents, updateTenant } from "../tenants/tenants.ts";
import { createTestDatabase, type TestDatabase } from "../testing/database.ts";
import {
  deprovisionTenant,
  findCredentials,
  findKeys,
  findRuntime,
  noteSecretRefused,
  planRotation,
  provisionTenant,
  resumeTenant,
  rotateKeys,
  sleepTenant,
  suspendTenant,
  sweepRotations,
  wakeTenant,
} from "./orchestrator.ts";
import { computeSpec } from "./spec.ts";
import { type Bench, setUpOrchestrator } from "./test-setup.ts";

const reason = "a laptop was lost";

let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

async function newActive(bench: Bench): Promise<TenantId> {
  const id = await bench.newTenant({ billingExempt: true });
  await provisionTenant(bench.ctx, id, "test");
  await bench.settle(id);
  return id;
}

async function look({ ctx, driver, vault }: Bench, id: TenantId) {
  const tenant = await getTenant(ctx.db, id);
  const observed = await driver.inspect(id);
  const secrets = await vault.list(tenantSecretPrefix(id));
  return {
    phase: (await findKeys(ctx, tenant))?.rotation?.phase ?? null,
    generation: tenant.keyGeneration,
    runtime: observed.state,
    isCurrent: observed.specHash === computeSpec(tenant, ctx.fleet).hash,
    secrets: secrets.length,
    hold: (await findCredentials(ctx.db, id, "model-key")).length,
  };
}

async function rotationIsDueInMs(id: TenantId): Promise<number | undefined> {
  const { rows } = await sql<{ ms: number }>`
    SELECT (extract(epoch FROM run_at - now()) * 1000)::float AS ms
    FROM graphile_worker.jobs WHERE key = ${`rotate-keys:${id}`}`.execute(database.db);
  return rows[0]?.ms;
}

test("new keys hold beside the old ones, the runtime moves over, and a minute later the old ones are gone (F98)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, clock, vault } = bench;
  const id = await newActive(bench);
  const oldKeys = await Promise.all(TENANT_SECRETS.map((secret) => vault.get(tenantSecretName(id, secret, 1))));
  assert.deepEqual(await rotateKeys(ctx, id, reason), { generation: 2 });
  const before = { phase: "minting", generation: 1, runtime: "running", isCurrent: true, secrets: 4, hold: 1 };
  assert.deepEqual(await look(bench, id), before);
  await bench.rotate(id);
  assert.deepEqual(await look(bench, id), { ...before, phase: "spreading", secrets: 8, hold: 2 });
  clock.advance(5_999);
  await bench.rotate(id);
  assert.deepEqual(await look(bench, id), { ...before, phase: "spreading", secrets: 8, hold: 2 });
  clock.advance(1);
  await bench.rotate(id);
  const told = { ...before, phase: "switching", generation: 2, isCurrent: false, secrets: 8, hold: 2 };
  assert.deepEqual(await look(bench, id), told);
  await bench.converge(id);
  await bench.rotate(id);
  assert.deepEqual(await look(bench, id), { ...told, phase: "overlapping", isCurrent: true });
  clock.advance(59_999);
  await bench.rotate(id);
  assert.deepEqual(await look(bench, id), { ...told, phase: "overlapping", isCurrent: true });
  const [newer, older] = await findCredentials(ctx.db, id, "telegram-token");
  assert.deepEqual([newer?.expiresAt, older?.expiresAt], [null, new Date(clock.now().getTime() + 1)]);
  clock.advance(1);
  await bench.rotate(id);
  const done = { ...told, phase: null, isCurrent: true, secrets: 4, hold: 1 };
  assert.deepEqual(await look(bench, id), done);

  const keys = await Promise.all(TENANT_SECRETS.map((secret) => vault.get(tenantSecretName(id, secret, 2))));
  assert.ok(keys.every((key) => key !== undefined && !oldKeys.includes(key)));
  assert.equal(new Set(keys).size, 4);
  const [kept] = await findCredentials(ctx.db, id, "model-key");
  const modelKey = keys[TENANT_SECRETS.indexOf("model-key")] ?? "";
  assert.deepEqual(kept?.sha256, createHash("sha256").update(modelKey).digest());
  const events = (await listTenantEvents(ctx.db, id, 2)).map(({ action, detail, reason: why }) => [
    action,
    detail,
    why,
  ]);
  const detail = { from: 1, to: 2 };
  assert.deepEqual(events, [
    ["tenant.keys-rotation", detail, reason],
    ["tenant.keys-rotated", detail, reason],
  ]);
  await bench.settle(id);
  assert.deepEqual(await look(bench, id), done);
});

test("a second rotation waits for the first, and who has no keys has none to rotate", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx } = bench;
  const refused = async (id: TenantId, code: string, message: RegExp) => {
    const tenant = await getTenant(ctx.db, id);
    await assert.rejects(planRotation(ctx, tenant), { code, message });
    await assert.rejects(rotateKeys(ctx, id, reason), { code, message });
  };
  const id = await bench.newTenant({ billingExempt: true });
  await refused(id, "no_keys", /is pending/);
  await provisionTenant(ctx, id, reason);
  await refused(id, "no_keys", /is provisioning/);
  await bench.settle(id);
  await rotateKeys(ctx, id, reason);
  await refused(id, "rotation_under_way", /since 2026-.*new keys are being made.*tenant show/);
  await bench.settle(id);
  assert.deepEqual(await planRotation(ctx, await getTenant(ctx.db, id)), { generation: 3 });
  await rotateKeys(ctx, id, reason);
  await bench.settle(id);
  assert.deepEqual(await vaultNames(bench, id), namesOf(id, 3));
  await deprovisionTenant(ctx, id, reason);
  await refused(id, "no_keys", /is deprovisioning/);
  await bench.settle(id);
  await refused(id, "no_keys", /is deleted/);
});

async function vaultNames({ vault }: Bench, id: TenantId): Promise<string[]> {
  return vault.list(tenantSecretPrefix(id));
}

function namesOf(id: TenantId, generation: number): string[] {
  return TENANT_SECRETS.map((secret) => tenantSecretName(id, secret, generation)).toSorted();
}

test("who sleeps, or is suspended, gets new keys without being woken, and the next wake has them", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, clock, driver } = bench;
  let wakes = 0;
  const counted = {
    ...ctx,
    runtimes: {
      ...driver,
      wake: (id: TenantId) => {
        wakes += 1;
        return driver.wake(id);
      },
    },
  };
  const settle = (id: TenantId) =>
    bench.settle(id, (job) => (job === "converge" ? bench.converge(id, counted) : bench.rotate(id, counted)));
  for (const [stop, start] of [
    [sleepTenant, (_ctx: unknown, id: TenantId) => wakeTenant(ctx, id)],
    [suspendTenant, resumeTenant],
  ] as const) {
    wakes = 0;
    const id = await newActive(bench);
    await stop(ctx, id, reason);
    clock.advance(20_000);
    await settle(id);
    assert.equal((await driver.inspect(id)).state, "asleep");
    await rotateKeys(ctx, id, reason);
    await settle(id);
    const asleep = { phase: null, generation: 2, runtime: "asleep", isCurrent: true, secrets: 4, hold: 1 };
    assert.deepEqual(await look(bench, id), asleep);
    assert.equal(wakes, 0);
    await start(ctx, id, reason);
    await settle(id);
    assert.deepEqual(await look(bench, id), { ...asleep, runtime: "running" });
    assert.equal((await findRuntime(ctx.db, id))?.keyGeneration, 2);
  }
});

test("a runtime that doesn't come up with the new keys keeps the rotation open and both generations, for as long as it takes", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, clock, driver } = bench;
  const id = await newActive(bench);
  await rotateKeys(ctx, id, reason);
  await bench.rotate(id);
  clock.advance(6_000);
  await bench.rotate(id);
  driver.setHealthy(id, false);
  for (let hour = 0; hour < 24; hour += 1) {
    clock.advance(3_600_000);
    await bench.converge(id);
    await bench.rotate(id);
  }
  const stuck = { phase: "switching", generation: 2, runtime: "starting", isCurrent: true, secrets: 8, hold: 2 };
  assert.deepEqual(await look(bench, id), stuck);
  assert.ok(((await rotationIsDueInMs(id)) ?? 0) > 50_000);
  driver.setHealthy(id, true);
  await bench.settle(id);
  assert.deepEqual(await look(bench, id), { ...stuck, phase: null, runtime: "running", secrets: 4, hold: 1 });
});

test("a removal in the middle of a rotation takes all keys, and who comes back gets keys under names never used (F45, F97)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx } = bench;
  const id = await newActive(bench);
  await rotateKeys(ctx, id, reason);
  await bench.rotate(id);
  assert.deepEqual(await vaultNames(bench, id), [...namesOf(id, 1), ...namesOf(id, 2)].toSorted());
  await deprovisionTenant(ctx, id, reason);
  await bench.settle(id);
  assert.deepEqual(await vaultNames(bench, id), []);
  for (const kind of ["model-key", "telegram-token"] as const)
    assert.deepEqual(await findCredentials(ctx.db, id, kind), []);
  assert.equal(await findKeys(ctx, await getTenant(ctx.db, id)), undefined);
  await provisionTenant(ctx, id, "back");
  await bench.settle(id);
  assert.deepEqual(await vaultNames(bench, id), namesOf(id, 3));
  const back = { phase: null, generation: 3, runtime: "running", isCurrent: true, secrets: 4, hold: 1 };
  assert.deepEqual(await look(bench, id), back);
});

test("provisioning, resuming and changing a tenant while its keys are rotated mints nothing over them (F45)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, vault } = bench;
  const id = await newActive(bench);
  await rotateKeys(ctx, id, reason);
  await bench.rotate(id);
  const read = () => Promise.all([...namesOf(id, 1), ...namesOf(id, 2)].map((name) => vault.get(name)));
  const minted = await read();
  await bench.converge(id);
  await updateTenant(ctx, id, { timeZone: "Asia/Tokyo" });
  await bench.converge(id);
  await suspendTenant(ctx, id, reason);
  await bench.converge(id);
  await resumeTenant(ctx, id, reason);
  await bench.converge(id);
  await bench.rotate(id);
  assert.deepEqual(await read(), minted);
  assert.equal((await look(bench, id)).phase, "spreading");
});

test("a vault in trouble is shown and tried again with patience, and nothing is retired that was not read back as gone (F48, F97)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, vault } = bench;
  const id = await newActive(bench);
  await rotateKeys(ctx, id, reason);
  const down = { ...ctx, vault: { ...vault, set: () => Promise.reject(new Error("the vault is down")) } };
  const delays: number[] = [];
  for (let attempt = 1; attempt <= 7; attempt += 1) {
    await bench.rotate(id, down);
    delays.push(Math.ceil(((await rotationIsDueInMs(id)) ?? 0) / 1_000));
  }
  assert.deepEqual(delays, [2, 4, 8, 16, 32, 60, 60]);
  assert.equal((await findKeys(ctx, await getTenant(ctx.db, id)))?.rotation?.trouble, "the vault is down");

  const forgetful = { ...ctx, vault: { ...vault, delete: async () => undefined } };
  for (let run = 0; run < 8; run += 1) {
    await bench.rotate(id, forgetful);
    await bench.converge(id);
    bench.clock.advance(20_000);
  }
  const rotation = (await findKeys(ctx, await getTenant(ctx.db, id)))?.rotation;
  assert.equal(rotation?.phase, "retiring");
  assert.match(rotation?.trouble ?? "", /still there after deleting/);
  assert.equal((await look(bench, id)).hold, 1);
  await bench.settle(id);
  assert.deepEqual(await vaultNames(bench, id), namesOf(id, 2));
});

test("of a fleet that is rotated at once about ten are replaced at a time, and those that don't come up hold up nobody for long", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, clock, driver } = bench;
  const ids: TenantId[] = [];
  for (let nth = 0; nth < 13; nth += 1) ids.push(await newActive(bench));
  for (const id of ids) {
    await rotateKeys(ctx, id, reason);
    await bench.rotate(id);
    driver.setHealthy(id, false);
  }
  clock.advance(6_000);
  const rotateAll = async () => {
    for (const id of ids) await bench.rotate(id);
    const generations = await Promise.all(ids.map(async (id) => (await getTenant(ctx.db, id)).keyGeneration));
    return generations.filter((generation) => generation === 2).length;
  };
  assert.equal(await rotateAll(), 10);
  assert.equal(await rotateAll(), 10);
  const [first] = ids;
  assert.ok(first !== undefined);
  driver.setHealthy(first, true);
  await bench.converge(first);
  assert.equal(await rotateAll(), 11);
  clock.advance(120_000);
  assert.equal(await rotateAll(), 13);
});

test("a rotation whose job is gone gets another, and one that waits is not hurried", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await newActive(bench);
  await rotateKeys(bench.ctx, id, reason);
  await sql`SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs`.execute(database.db);
  assert.equal(await rotationIsDueInMs(id), undefined);
  await sweepRotations(bench.ctx);
  assert.ok(((await rotationIsDueInMs(id)) ?? 1) <= 0);
  await sql`SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs`.execute(database.db);
  await bench.rotate(id);
  await sweepRotations(bench.ctx);
  assert.ok(((await rotationIsDueInMs(id)) ?? 0) > 3_000);
});

test("a hash that is left of another generation opens nothing", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await newActive(bench);
  const sha256 = createHash("sha256").update("stray").digest();
  const stray = { tenantId: id, kind: "model-key" as const, generation: 7, sha256, createdAt: bench.clock.now() };
  await database.db.insertInto("runtimeCredentials").values(stray).execute();
  assert.equal((await findCredentials(database.db, id, "model-key")).length, 1);
});

test("a runtime that refuses the vault's webhook secret is started anew, once in a while at most", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, clock, driver } = bench;
  const id = await newActive(bench);
  let starts = 0;
  const counted = {
    ...ctx,
    runtimes: {
      ...driver,
      wake: (tenantId: TenantId) => {
        starts += 1;
        return driver.wake(tenantId);
      },
    },
  };
  const refusal = async () => {
    await noteSecretRefused(ctx, id);
    await bench.converge(id, counted);
    return { starts, known: (await findRuntime(ctx.db, id))?.secretRefusedAt ?? null };
  };
  clock.advance(11 * 60_000);
  assert.deepEqual(await refusal(), { starts: 1, known: null });
  const at = clock.now();
  assert.deepEqual((await findRuntime(ctx.db, id))?.healthyAt, at);
  assert.deepEqual(await refusal(), { starts: 1, known: at });
  clock.advance(10 * 60_000 - 1);
  assert.deepEqual(await refusal(), { starts: 1, known: at });
  clock.advance(1);
  assert.deepEqual(await refusal(), { starts: 2, known: null });
  assert.equal((await driver.inspect(id)).state, "running");
});
