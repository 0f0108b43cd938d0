import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { sql } from "kysely";
import { addMs, fixedClock } from "../platform/clock.ts";
import { ConflictError, NotFoundError, UsageError } from "../platform/errors.ts";
import { parseTenantId } from "../platform/ids.ts";
import { createTestDatabase } from "../testing/database.ts";
import {
  changeStatus,
  createTenant,
  getTenant,
  listTenantEvents,
  listTenants,
  type StatusChange,
  updateTenant,
} from "./tenants.ts";

const START = new Date("2026-03-01T12:00:00Z");
const DAY_MS = 86_400_000;
const alice = { slug: "alice", email: "alice@example.com", telegramChatId: 4001 };

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

beforeEach(async () => {
  await sql`TRUNCATE tenants, audit_log CASCADE`.execute(database.db);
  await sql`SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs`.execute(database.db);
});

const clock = fixedClock(START);
const context = () => ({ db: database.db, clock, actor: { name: "ops" } });

async function move(id: string, ...changes: StatusChange[]): Promise<void> {
  for (const change of changes) await moveOnce(id, change);
}

async function moveOnce(id: string, change: StatusChange) {
  const tenantId = parseTenantId(id);
  assert.ok(tenantId);
  return database.db.transaction().execute((tx) => changeStatus({ ...context(), db: tx }, tenantId, change));
}

async function jobsOf(tenantId: string): Promise<string[]> {
  const { rows } = await sql<{ task: string }>`
    SELECT task_identifier AS task FROM graphile_worker.jobs WHERE key = ${`converge:${tenantId}`}`.execute(
    database.db,
  );
  return rows.map((row) => row.task);
}

const provision = { to: "provisioning", reason: "paid" } as const;
const activate = { to: "active", reason: "healthy" } as const;
const suspend = { to: "suspended", suspendedBy: "operator", reason: "asked" } as const;
const remove = { to: "deprovisioning", reason: "ended" } as const;
const finish = { to: "deleted", reason: "gone", retentionDays: 30 } as const;

test("a new tenant waits as pending with defaults, and nothing runs for it", async () => {
  const { tenant, created } = await createTenant(context(), alice);
  assert.equal(created, true);
  assert.deepEqual(
    [tenant.status, tenant.displayName, tenant.tier, tenant.timeZone, tenant.telegramUserId, tenant.trialEndsAt],
    ["pending", "alice", "basic", "UTC", 4001, null],
  );
  assert.deepEqual(await jobsOf(tenant.id), []);
  assert.equal((await getTenant(database.db, tenant.id.toUpperCase())).slug, "alice");
  assert.equal((await getTenant(database.db, "ALICE")).id, tenant.id);
  await assert.rejects(getTenant(database.db, "nobody"), NotFoundError);
});

const taken = {
  "the slug": { slug: "alice", email: "other@example.com" },
  "the e-mail": { slug: "other", email: "alice@example.com" },
  "the e-mail in other letters": { slug: "other", email: "Alice@Example.COM" },
  "the chat": { slug: "other", email: "other@example.com", telegramChatId: 4001 },
};
for (const [what, input] of Object.entries(taken)) {
  test(`a second tenant with ${what} of the first is a conflict that names it, and leaves no row`, async () => {
    await createTenant(context(), alice);
    await assert.rejects(
      createTenant(context(), input, { idempotencyKey: "k" }),
      (error) =>
        error instanceof ConflictError && /belongs to tenant alice \(pending\).*tenant show/.test(error.message),
    );
    assert.deepEqual(await counts(), { tenants: 1, audit: 1, keys: 0 });
  });
}

test("a deleted tenant keeps e-mail and chat, and the conflict names restore", async () => {
  const { tenant } = await createTenant(context(), alice);
  await move(tenant.id, remove, finish);
  for (const input of [taken["the e-mail"], taken["the chat"]]) {
    await assert.rejects(
      createTenant(context(), input),
      (error) => error instanceof ConflictError && error.message.includes("openclaw tenant restore alice"),
    );
  }
});

test("one idempotency key gives one tenant, also to ten calls at once", async () => {
  const calls = Array.from({ length: 10 }, () => createTenant(context(), alice, { idempotencyKey: "order-7" }));
  const results = await Promise.all(calls);
  assert.equal(new Set(results.map(({ tenant }) => tenant.id)).size, 1);
  assert.equal(results.filter(({ created }) => created).length, 1);
  assert.deepEqual(await counts(), { tenants: 1, audit: 1, keys: 1 });
});

test("an idempotency key used for other input is a conflict, one after the other and at once", async () => {
  const bob = { slug: "bob", email: "bob@example.com" };
  const attempts = [alice, bob].map((input) => createTenant(context(), input, { idempotencyKey: "order-8" }));
  const settled = await Promise.allSettled(attempts);
  const refused = settled.filter((result) => result.status === "rejected").map((result) => result.reason);
  assert.deepEqual(
    refused.map((error) => error.code),
    ["idempotency_key_reused"],
  );
  const carol = { slug: "carol", email: "carol@example.com" };
  await assert.rejects(createTenant(context(), carol, { idempotencyKey: "order-8" }), {
    code: "idempotency_key_reused",
  });
  assert.deepEqual(await counts(), { tenants: 1, audit: 1, keys: 1 });
});

test("a trial begins provisioning with the creation, with its deadline and its job", async () => {
  const { tenant } = await createTenant(context(), { ...alice, trialDays: 14 });
  assert.equal(tenant.status, "provisioning");
  assert.deepEqual(tenant.trialEndsAt, addMs(START, 14 * DAY_MS));
  assert.deepEqual(tenant.provisioningDeadline, addMs(START, 30 * 60_000));
  assert.deepEqual(await jobsOf(tenant.id), ["tenant.converge"]);
});

test("bad input names every field that is wrong, and nothing is written", async () => {
  const input = { slug: "9", email: "no", timeZone: "Mars/Olympus", telegramChatId: -5, tags: ["Bad Tag"] };
  await assert.rejects(createTenant(context(), input), (error) => {
    assert.ok(error instanceof UsageError);
    for (const field of ["slug", "email", "timeZone", "telegramChatId", "tags"])
      assert.match(error.message, RegExp(field));
    return true;
  });
  assert.deepEqual(await counts(), { tenants: 0, audit: 0, keys: 0 });
});

test("an update changes what it names, has the runtime follow, and refuses nothing, nonsense and a taken e-mail", async () => {
  const { tenant } = await createTenant(context(), alice);
  await createTenant(context(), { slug: "bob", email: "bob@example.com" });
  const changed = await updateTenant(context(), tenant.id, { tier: "plus", timeZone: "Europe/Berlin", tags: ["vip"] });
  assert.deepEqual(
    [changed.tier, changed.timeZone, changed.tags, changed.email],
    ["plus", "Europe/Berlin", ["vip"], alice.email],
  );
  assert.deepEqual(await jobsOf(tenant.id), ["tenant.converge"]);
  await assert.rejects(updateTenant(context(), tenant.id, {}), { code: "nothing_to_change" });
  await assert.rejects(updateTenant(context(), tenant.id, { slug: "alicia" }), UsageError);
  await assert.rejects(updateTenant(context(), tenant.id, { email: "BOB@example.com" }), { code: "email_taken" });
  assert.equal((await getTenant(database.db, "alice")).email, alice.email);
});

test("every change stands in the audit log with actor, reason and what changed", async () => {
  const { tenant } = await createTenant(context(), alice);
  await updateTenant({ ...context(), actor: { name: "eve", requestId: "r-1" } }, tenant.id, { tier: "plus" });
  await move(tenant.id, provision, activate, suspend);
  const events = await listTenantEvents(database.db, tenant.id, 50);
  assert.deepEqual(
    events.map(({ actor, action, reason, requestId, detail }) => ({ actor, action, reason, requestId, detail })),
    [
      {
        actor: "ops",
        action: "tenant.created",
        reason: null,
        requestId: null,
        detail: { slug: "alice", tier: "basic" },
      },
      {
        actor: "eve",
        action: "tenant.updated",
        reason: null,
        requestId: "r-1",
        detail: { fields: ["tier"], tier: "basic → plus" },
      },
      status("paid", { from: "pending", to: "provisioning" }),
      status("healthy", { from: "provisioning", to: "active" }),
      status("asked", { from: "active", to: "suspended", by: "operator" }),
    ],
  );
});

function status(reason: string, detail: Record<string, string>) {
  return { actor: "ops", action: "tenant.status", reason, requestId: null, detail };
}

test("a status change that the table lacks is refused, naming what is possible, and leaves no trace", async () => {
  const { tenant } = await createTenant(context(), alice);
  await assert.rejects(
    move(tenant.id, suspend),
    (error) =>
      error instanceof ConflictError && /is pending.*possible: provisioning, deprovisioning/.test(error.message),
  );
  assert.equal((await getTenant(database.db, "alice")).status, "pending");
  assert.equal((await listTenantEvents(database.db, tenant.id, 50)).length, 1);
  assert.deepEqual(await jobsOf(tenant.id), []);
});

test("status changes at once are applied one after the other: one suspends, the others are told", async () => {
  const { tenant } = await createTenant(context(), alice);
  await move(tenant.id, provision, activate);
  const settled = await Promise.allSettled(Array.from({ length: 8 }, () => moveOnce(tenant.id, suspend)));
  assert.equal(settled.filter((result) => result.status === "fulfilled").length, 1);
  for (const result of settled) if (result.status === "rejected") assert.ok(result.reason instanceof ConflictError);
  const events = await listTenantEvents(database.db, tenant.id, 50);
  assert.equal(events.filter((event) => event.reason === "asked").length, 1);
});

test("deletion sets the end of retention, and provisioning again takes it back", async () => {
  const { tenant } = await createTenant(context(), alice);
  await move(tenant.id, remove, finish);
  assert.deepEqual((await getTenant(database.db, "alice")).purgeAfter, addMs(START, 30 * DAY_MS));
  await move(tenant.id, provision);
  assert.equal((await getTenant(database.db, "alice")).purgeAfter, null);
});

test("a list is by slug, and filters by status, tier and tag", async () => {
  await createTenant(context(), { slug: "zoe", email: "zoe@example.com", tier: "plus", tags: ["vip"] });
  await createTenant(context(), { ...alice, trialDays: 1 });
  const slugs = async (filter: Parameters<typeof listTenants>[1]) =>
    (await listTenants(database.db, filter)).map((tenant) => tenant.slug);
  assert.deepEqual(await slugs({}), ["alice", "zoe"]);
  assert.deepEqual(await slugs({ status: ["provisioning", "active"] }), ["alice"]);
  assert.deepEqual(await slugs({ tier: "plus" }), ["zoe"]);
  assert.deepEqual(await slugs({ tag: "vip" }), ["zoe"]);
  assert.deepEqual(await slugs({ tag: "nobody" }), []);
});

async function counts() {
  const { rows } = await sql<{ tenants: number; audit: number; keys: number }>`
    SELECT (SELECT count(*) FROM tenants) AS tenants, (SELECT count(*) FROM audit_log) AS audit,
           (SELECT count(*) FROM idempotency_keys) AS keys`.execute(database.db);
  return rows[0];
}
