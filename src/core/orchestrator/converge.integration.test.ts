import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { TENANT_SECRETS, tenantSecretName, tenantSecretPrefix } from "../adapters/vault/vault.ts";
import { addMs } from "../platform/clock.ts";
import { UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { findTenantById, getTenant, linkChat, setProvisionWhenDeleted, updateTenant } from "../tenants/tenants.ts";
import { createTestDatabase } from "../testing/database.ts";
import { findCredentials, findRuntime, sweepRuntimes } from "./orchestrator.ts";
import { computeSpec } from "./spec.ts";
import { type Bench, setUpOrchestrator } from "./test-setup.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

const suspend = { to: "suspended", suspendedBy: "billing", reason: "not paid" } as const;
const resume = { to: "active", reason: "paid" } as const;
const remove = { to: "deprovisioning", reason: "ended" } as const;
const provision = { to: "provisioning", reason: "asked" } as const;

const platformDown = () => new UpstreamError("down", "the platform is down", { service: "runtime", retryable: true });

async function look({ ctx }: Bench, id: TenantId) {
  const tenant = await getTenant(ctx.db, id);
  return { status: tenant.status, because: tenant.statusReason, asleep: tenant.hibernatedAt !== null };
}

async function keysOf({ ctx, vault }: Bench, id: TenantId) {
  const { keyGeneration } = await getTenant(ctx.db, id);
  return Promise.all(TENANT_SECRETS.map((secret) => vault.get(tenantSecretName(id, secret, keyGeneration))));
}

test("a runtime that was not seen yet has no image on record (F48)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  bench.driver.failNext("ensure", platformDown());
  await bench.converge(id);
  assert.equal((await findRuntime(bench.ctx.db, id))?.image, "");
  await bench.converge(id);
  assert.equal((await findRuntime(bench.ctx.db, id))?.image, bench.ctx.fleet.image);
});

test("a provisioning tenant is active only once its runtime is healthy, and waiting burns no attempt (F47)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, driver } = bench;
  const id = await bench.newTenant();
  driver.setHealthy(id, false);
  for (let run = 0; run < 15; run++) await bench.converge(id);
  assert.equal((await look(bench, id)).status, "provisioning");
  const waiting = await findRuntime(ctx.db, id);
  assert.deepEqual([waiting?.state, waiting?.attempts, waiting?.healthyAt], ["starting", 0, null]);
  driver.setHealthy(id, true);
  await bench.settle(id);
  assert.deepEqual(await look(bench, id), { status: "active", because: "the runtime is healthy", asleep: false });
  const healthy = await findRuntime(ctx.db, id);
  assert.deepEqual([healthy?.state, healthy?.address], ["running", `http://${id}.invalid`]);
  assert.deepEqual(healthy?.healthyAt, bench.clock.now());
});

test("failures back off, then the tenant is given up to pending with the reason, and asked again it has all attempts (F51)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, driver, clock } = bench;
  const id = await bench.newTenant();
  const delays: number[] = [];
  for (let attempt = 1; attempt <= 9; attempt++) {
    driver.failNext("ensure", platformDown());
    await bench.converge(id);
    delays.push(Math.ceil(((await bench.dueInMs(id)) ?? 0) / 1_000));
    const runtime = await findRuntime(ctx.db, id);
    assert.deepEqual([runtime?.attempts, runtime?.reason], [attempt, "the platform is down"]);
    assert.equal((await look(bench, id)).status, "provisioning");
  }
  assert.deepEqual(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
  driver.failNext("ensure", platformDown());
  await bench.converge(id);
  assert.deepEqual(await look(bench, id), {
    status: "pending",
    because: "given up after 10 attempts: the platform is down",
    asleep: false,
  });

  clock.advance(1_000);
  await bench.move(id, provision);
  clock.advance(1_000);
  driver.failNext("ensure", platformDown());
  await bench.converge(id);
  assert.equal((await findRuntime(ctx.db, id))?.attempts, 1);
  assert.equal((await look(bench, id)).status, "provisioning");
  await bench.settle(id);
  assert.equal((await look(bench, id)).status, "active");
});

test("a runtime that doesn't become healthy by the deadline is given up with what it was waiting for (F51)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  bench.driver.setHealthy(id, false);
  await bench.converge(id);
  bench.clock.advance(30 * 60_000 - 1);
  await bench.converge(id);
  assert.equal((await look(bench, id)).status, "provisioning");
  bench.clock.advance(1);
  await bench.settle(id);
  assert.deepEqual(await look(bench, id), {
    status: "pending",
    because: "not healthy before the deadline: it was still starting",
    asleep: true,
  });
  assert.equal((await bench.driver.inspect(id)).state, "asleep");
});

test("a suspended tenant's runtime sleeps, and a resumed one is awake with the same keys (F45, F54, F57)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, driver } = bench;
  const id = await bench.newTenant();
  await bench.settle(id);
  const keys = await keysOf(bench, id);
  assert.equal(new Set(keys).size, TENANT_SECRETS.length);
  const credential = await findCredentials(ctx.db, id, "model-key");
  assert.deepEqual(
    credential.map(({ sha256, expiresAt }) => [sha256.length, expiresAt]),
    [[32, null]],
  );

  await bench.move(id, suspend);
  await bench.settle(id);
  assert.deepEqual(await look(bench, id), { status: "suspended", because: "not paid", asleep: true });
  assert.equal((await driver.inspect(id)).state, "asleep");
  assert.deepEqual(
    [(await findRuntime(ctx.db, id))?.state, (await findRuntime(ctx.db, id))?.address],
    ["asleep", null],
  );

  await bench.move(id, resume);
  await bench.settle(id);
  assert.deepEqual(await look(bench, id), { status: "active", because: "paid", asleep: false });
  assert.equal((await driver.inspect(id)).state, "running");
  assert.equal((await findRuntime(ctx.db, id))?.state, "running");
  assert.deepEqual(await keysOf(bench, id), keys);
  assert.deepEqual(await findCredentials(ctx.db, id, "model-key"), credential);
});

test("a changed tenant gets another configuration, and only then is its new user allowed", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, driver } = bench;
  const id = await bench.newTenant();
  await bench.settle(id);
  assert.equal((await findRuntime(ctx.db, id))?.allowedUserId, null);
  await linkChat(ctx, id, { chatId: 6001, userId: 6001, username: undefined });
  driver.failNext("ensure", platformDown());
  await bench.converge(id);
  assert.equal((await findRuntime(ctx.db, id))?.allowedUserId, null);
  await bench.converge(id, { ...ctx, runtimes: { ...driver, ensure: ({ tenantId }) => driver.inspect(tenantId) } });
  assert.equal((await findRuntime(ctx.db, id))?.allowedUserId, null, "while the old one still runs");
  assert.notEqual(await bench.dueInMs(id), undefined);
  await bench.settle(id);
  assert.equal((await findRuntime(ctx.db, id))?.allowedUserId, 6001);
  const tenant = await getTenant(ctx.db, id);
  assert.equal((await driver.inspect(id)).specHash, computeSpec(tenant, ctx.fleet).hash);
});

test("whoever is linked again before it was seen what came into force is not sent to a runtime that names another", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, driver } = bench;
  const id = await bench.newTenant();
  const link = (userId: number) => linkChat(ctx, id, { chatId: userId, userId, username: undefined });
  const allowed = async () => (await findRuntime(ctx.db, id))?.allowedUserId;
  await link(6101);
  await bench.settle(id);
  assert.equal(await allowed(), 6101);
  await link(6102);
  const lost = async (...args: Parameters<typeof driver.ensure>) => {
    await driver.ensure(...args);
    throw platformDown();
  };
  await bench.converge(id, { ...ctx, runtimes: { ...driver, ensure: lost } });
  await link(6101);
  assert.equal(await allowed(), null, "what runs names 6102");
  await bench.settle(id);
  assert.equal(await allowed(), 6101);
});

test("a deprovisioned tenant leaves no runtime, key or credential, read back, and keeps a date of purge (F43, F97)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, driver, vault } = bench;
  const id = await bench.newTenant();
  const other = await bench.newTenant();
  await bench.settle(id);
  await bench.settle(other);
  await vault.set(`${tenantSecretPrefix(id)}from-before`, "an older release's secret");
  await bench.move(id, remove);
  await bench.settle(id);
  assert.equal((await look(bench, id)).status, "deleted");
  assert.equal((await driver.inspect(id)).state, "absent");
  assert.deepEqual(await vault.list(tenantSecretPrefix(id)), []);
  assert.deepEqual(await findCredentials(ctx.db, id, "telegram-token"), []);
  assert.equal(await findRuntime(ctx.db, id), undefined);
  assert.deepEqual((await getTenant(ctx.db, id)).purgeAfter, addMs(bench.clock.now(), 30 * 86_400_000));
  assert.equal((await look(bench, other)).status, "active");
  assert.equal((await vault.list(tenantSecretPrefix(other))).length, TENANT_SECRETS.length);
});

test("a removal that fails stays deprovisioning with its reason, is never given up and never shown as deleted (F43, F44)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, driver } = bench;
  const id = await bench.newTenant();
  await bench.settle(id);
  await bench.move(id, remove);
  for (let attempt = 0; attempt < 12; attempt++) {
    driver.failNext("remove", platformDown());
    await bench.converge(id);
  }
  assert.equal((await look(bench, id)).status, "deprovisioning");
  assert.equal((await findRuntime(ctx.db, id))?.reason, "the platform is down");
  assert.ok(((await bench.dueInMs(id)) ?? 0) > 50_000);
  await bench.settle(id);
  assert.equal((await look(bench, id)).status, "deleted");
});

test("a runtime that is still there after its removal is not deleted (F43)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  await bench.settle(id);
  await bench.move(id, remove);
  await bench.converge(id, { ...bench.ctx, runtimes: { ...bench.driver, remove: async () => undefined } });
  assert.equal((await look(bench, id)).status, "deprovisioning");
  assert.match((await findRuntime(bench.ctx.db, id))?.reason ?? "", /still running after removing it/);
  assert.equal((await bench.vault.list(tenantSecretPrefix(id))).length, TENANT_SECRETS.length);
});

test("secrets that the vault keeps after deleting them are not deleted (F97)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  await bench.settle(id);
  await bench.move(id, remove);
  await bench.converge(id, { ...bench.ctx, vault: { ...bench.vault, delete: async () => undefined } });
  assert.equal((await look(bench, id)).status, "deprovisioning");
  assert.match((await findRuntime(bench.ctx.db, id))?.reason ?? "", /still there after deleting/);
});

test("a tenant that was never provisioned is deleted as well, and one entitled again meanwhile comes back with new keys", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx } = bench;
  const never = await bench.newTenant({});
  await bench.move(never, remove);
  await bench.settle(never);
  assert.equal((await look(bench, never)).status, "deleted");

  const id = await bench.newTenant();
  await bench.settle(id);
  const keys = await keysOf(bench, id);
  await bench.move(id, remove);
  await setProvisionWhenDeleted(ctx.db, id, true);
  await bench.settle(id);
  assert.equal((await look(bench, id)).status, "active");
  const { provisionWhenDeleted, purgeAfter } = await getTenant(ctx.db, id);
  assert.deepEqual([provisionWhenDeleted, purgeAfter], [false, null]);
  const fresh = await keysOf(bench, id);
  assert.ok(fresh.every((key) => key !== undefined && !keys.includes(key)));
});

test("a tenant suspended while its runtime is brought up ends suspended and asleep", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  await bench.settle(id);
  await updateTenant(bench.ctx, id, { timeZone: "Asia/Tokyo" });
  await bench.settle(
    id,
    during(bench, id, "ensure", () => bench.move(id, suspend)),
  );
  assert.deepEqual(await look(bench, id), { status: "suspended", because: "not paid", asleep: true });
  assert.equal((await bench.driver.inspect(id)).state, "asleep");
});

test("a tenant resumed while its runtime goes to sleep ends active and awake (F54)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  await bench.settle(id);
  await bench.move(id, suspend);
  await bench.settle(
    id,
    during(bench, id, "sleep", () => bench.move(id, resume)),
  );
  assert.deepEqual(await look(bench, id), { status: "active", because: "paid", asleep: false });
  assert.equal((await bench.driver.inspect(id)).state, "running");
});

test("a tenant deprovisioned while it is provisioned is deleted, and its runtime with it", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  await bench.settle(
    id,
    during(bench, id, "ensure", () => bench.move(id, remove)),
  );
  assert.equal((await look(bench, id)).status, "deleted");
  assert.equal((await bench.driver.inspect(id)).state, "absent");
  assert.deepEqual(await bench.vault.list(tenantSecretPrefix(id)), []);
});

test("a removal that fails is visible and backs off, also where there never was a runtime", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant({});
  await bench.move(id, remove);
  for (let attempt = 0; attempt < 4; attempt++) {
    bench.driver.failNext("remove", platformDown());
    await bench.converge(id);
  }
  const runtime = await findRuntime(bench.ctx.db, id);
  assert.deepEqual([runtime?.state, runtime?.reason, runtime?.attempts], ["absent", "the platform is down", 4]);
  assert.ok(((await bench.dueInMs(id)) ?? 0) > 7_000);
  await bench.settle(id);
  assert.equal((await look(bench, id)).status, "deleted");
});

test("an active tenant whose runtime fails later stays active, however often (F37)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  await bench.settle(id);
  for (let attempt = 0; attempt < 12; attempt++) {
    bench.driver.failNext("ensure", platformDown());
    await bench.converge(id);
  }
  bench.clock.advance(86_400_000);
  assert.equal((await look(bench, id)).status, "active");
  assert.equal((await findRuntime(bench.ctx.db, id))?.attempts, 12);
  await bench.settle(id);
  assert.equal((await findRuntime(bench.ctx.db, id))?.attempts, 0);
});

test("the sweep finds from one listing what differs, and nothing else", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const { ctx, driver } = bench;
  await clearTenants();
  const [fine, asleep, gone, changed, awake, pending, slept] = await Promise.all(
    Array.from({ length: 7 }, (_, index) => bench.newTenant(index === 5 ? {} : { trialDays: 14 })),
  );
  assert.ok(fine && asleep && gone && changed && awake && pending && slept);
  for (const id of [fine, asleep, gone, changed, awake, slept]) await bench.settle(id);
  for (const id of [slept, awake]) {
    await bench.move(id, suspend);
    await bench.settle(id);
  }
  assert.equal(await sweepRuntimes(ctx), 0);

  await driver.sleep(asleep);
  await driver.remove(gone);
  await driver.wake(awake);
  const { image } = ctx.fleet;
  await driver.ensure({ ...computeSpec(await getTenant(ctx.db, changed), { ...ctx.fleet, image: `${image}-old` }) });
  let listings = 0;
  const countedList = () => {
    listings++;
    return driver.list();
  };
  const onlyLists = { ...driver, inspect: unused, ensure: unused, list: countedList };
  assert.equal(await sweepRuntimes({ ...ctx, runtimes: onlyLists }), 4);
  assert.equal(listings, 1);
  const due = await Promise.all([fine, asleep, gone, changed, awake, pending, slept].map(bench.dueInMs));
  assert.deepEqual(
    due.map((ms) => ms !== undefined),
    [false, true, true, true, true, false, false],
  );
  for (const id of [asleep, gone, changed, awake]) await bench.settle(id);
  assert.equal(await sweepRuntimes(ctx), 0);
});

test("the sweep leaves a failed tenant its backoff (F51)", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  for (let attempt = 0; attempt < 7; attempt++) {
    bench.driver.failNext("ensure", platformDown());
    await bench.converge(id);
  }
  await sweepRuntimes(bench.ctx);
  assert.ok(((await bench.dueInMs(id)) ?? 0) > 50_000);
  await updateTenant(bench.ctx, id, { timeZone: "Asia/Tokyo" });
  assert.ok(((await bench.dueInMs(id)) ?? 0) <= 0);
});

test("a tenant that is gone is no error for the job that comes late", async (t) => {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  await clearTenants();
  await bench.converge(id);
  assert.equal(await findTenantById(bench.ctx.db, id), undefined);
});

async function unused(): Promise<never> {
  throw new Error("the sweep looks at runtimes one by one");
}

async function clearTenants(): Promise<void> {
  await database.db.deleteFrom("tenants").execute();
}

/** Something happens once, in the middle of `operation`. */
function during(
  bench: Bench,
  id: TenantId,
  operation: "ensure" | "sleep",
  event: () => Promise<void>,
): () => Promise<void> {
  let happened = false;
  const once = async () => {
    if (!happened) await event();
    happened = true;
  };
  const { driver } = bench;
  const runtimes =
    operation === "sleep"
      ? { ...driver, sleep: (id: TenantId) => once().then(() => driver.sleep(id)) }
      : { ...driver, ensure: (...args: Parameters<typeof driver.ensure>) => once().then(() => driver.ensure(...args)) };
  return () => bench.converge(id, { ...bench.ctx, runtimes });
}
