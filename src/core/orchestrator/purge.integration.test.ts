import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { sql } from "kysely";
import { UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { findPurgedAt, findTenantById, getTenant, listTenantEvents } from "../tenants/tenants.ts";
import { createTestDatabase } from "../testing/database.ts";
import { purgeTenant, requestPurge, restoreTenant, sweepPurges } from "./orchestrator.ts";
import { setUpOrchestrator } from "./test-setup.ts";

const DAY_MS = 86_400_000;
const reason = "asked";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

/** A tenant that ran, in its trial, and is deleted. */
async function setUp(t: TestContext, trialDays = 14) {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant({ trialDays });
  await bench.settle(id);
  await bench.move(id, { to: "deprovisioning", reason });
  await bench.settle(id);
  assert.equal((await getTenant(database.db, id)).status, "deleted");
  const forgotten: TenantId[] = [];
  const forget = async (_db: unknown, tenantId: TenantId) => void forgotten.push(tenantId);
  const endOutside = async () => undefined;
  return { ...bench, id, forgotten, purge: () => purgeTenant({ ...bench.ctx, endOutside, forget }, id) };
}

test("a deleted tenant who is entitled is restored with its data, and runs again (F68)", async (t) => {
  const { ctx, id, settle, driver } = await setUp(t);
  const restored = await restoreTenant(ctx, id, { reason, unpaid: false });
  assert.deepEqual([restored.status, restored.purgeAfter], ["provisioning", null]);
  await settle(id);
  assert.equal((await getTenant(database.db, id)).status, "active");
  assert.equal((await driver.inspect(id)).state, "running");
});

test("without entitlement a restore names the remedy, or waits for a payment when that is asked for", async (t) => {
  const { ctx, id, clock } = await setUp(t);
  clock.advance(15 * DAY_MS);
  await assert.rejects(restoreTenant(ctx, id, { reason, unpaid: false }), {
    code: "not_entitled",
    message: /--trial-days/,
  });
  assert.equal((await restoreTenant(ctx, id, { reason, unpaid: true })).status, "pending");
  await assert.rejects(restoreTenant(ctx, id, { reason, unpaid: true }), { code: "not_deleted" });
});

test("when the keeping time is over, the tenant is purged, its slug and e-mail are free, and a record remains", async (t) => {
  const { ctx, id, clock, purge, forgotten } = await setUp(t);
  const { slug, email } = await getTenant(database.db, id);
  await purge();
  clock.advance(30 * DAY_MS - 1);
  assert.equal(await sweepPurges(ctx), 0);
  clock.advance(1);
  await assert.rejects(restoreTenant(ctx, id, { reason, unpaid: true }), { code: "keeping_time_over" });
  assert.equal(await sweepPurges(ctx), 1);
  const { rows } = await sql`SELECT FROM graphile_worker.jobs WHERE key = ${`purge:${id}`}`.execute(database.db);
  assert.equal(rows.length, 1);
  await purge();
  await purge();
  assert.equal(await findTenantById(database.db, id), undefined);
  assert.deepEqual(forgotten, [id]);
  assert.deepEqual(await findPurgedAt(database.db, slug), clock.now());
  assert.deepEqual(await findPurgedAt(database.db, id), clock.now());
  const actions = (await listTenantEvents(database.db, id, 100)).map(({ action }) => action);
  assert.deepEqual([actions.at(0), actions.at(-1)], ["tenant.created", "tenant.purged"]);
  const { rows: left } = await sql`SELECT FROM tenants WHERE email = ${email}`.execute(database.db);
  assert.equal(left.length, 0);
});

test("an operator may purge a deleted tenant at once, and only a deleted one", async (t) => {
  const { ctx, id, purge, newTenant } = await setUp(t);
  await assert.rejects(requestPurge(ctx, await newTenant(), reason), { code: "not_deleted", message: /deprovision/ });
  await requestPurge(ctx, id, reason);
  await purge();
  assert.equal(await findTenantById(database.db, id), undefined);
});

test("a tenant whose state can't be erased is not forgotten, and is tried again (F44)", async (t) => {
  const { ctx, id, purge, driver } = await setUp(t);
  await requestPurge(ctx, id, reason);
  driver.failNext("erase", new UpstreamError("busy", "locked", { service: "runtime", retryable: true }));
  await assert.rejects(purge(), { code: "busy" });
  assert.equal((await getTenant(database.db, id)).status, "deleted");
  await purge();
  assert.equal(await findTenantById(database.db, id), undefined);
});

test("a subscriber who comes back before the purge is left alone", async (t) => {
  const { ctx, id, purge, move, forgotten } = await setUp(t);
  await requestPurge(ctx, id, reason);
  await move(id, { to: "provisioning", reason: "paid" });
  await purge();
  assert.equal((await getTenant(database.db, id)).status, "provisioning");
  assert.deepEqual(forgotten, []);
});
