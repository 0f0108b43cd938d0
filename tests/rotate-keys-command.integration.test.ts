import assert from "node:assert/strict";
import { after, before, beforeEach, test, type TestContext } from "node:test";
import { sql } from "kysely";
import { systemClock } from "../src/core/platform/clock.ts";
import { createTenant, listTenantEvents } from "../src/core/tenants/tenants.ts";
import { createTestDatabase, type TestDatabase } from "../src/core/testing/database.ts";
import { documentOf, expectCode, openFolder, type Outcome } from "./command.ts";

let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());
beforeEach(() => sql`TRUNCATE tenants, audit_log CASCADE`.execute(database.db));

type Item = { tenant: string; result: string; generation: number | null; code: string | null };

/** Tenants by slug and status, none of which any daemon looks after. */
async function open(t: TestContext, statuses: Record<string, string>) {
  const ctx = { db: database.db, clock: systemClock, actor: { name: "test" } };
  for (const [slug, status] of Object.entries(statuses)) {
    const { tenant } = await createTenant(ctx, { slug, email: `${slug}@example.com`, tags: [`tag-${slug}`] });
    const suspendedBy = status === "suspended" ? "operator" : null;
    await sql`UPDATE tenants SET status = ${status}, suspended_by = ${suspendedBy} WHERE id = ${tenant.id}`.execute(
      ctx.db,
    );
    for (const kind of ["model-key", "telegram-token"]) {
      await sql`INSERT INTO runtime_credentials VALUES (${tenant.id}, ${kind}, '', '2026-03-01T12:00:00Z', 1)`.execute(
        ctx.db,
      );
    }
  }
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  return {
    rotate: (...args: string[]) => openclaw("tenant", "rotate-keys", ...args),
    openclaw,
    rotations: async () => (await database.pool.query("SELECT FROM key_rotations")).rowCount,
  };
}

function itemsOf(outcome: Outcome): Record<string, Omit<Item, "tenant">> {
  const { items } = documentOf(outcome) as { items: Item[] };
  return Object.fromEntries(
    items.map(({ tenant, result, generation, code }) => [tenant, { result, generation, code }]),
  );
}

const BEGUN = { result: "rotating", generation: 2, code: null };

test("a rotation is begun once, audited, shown, and refused while it is under way", async (t) => {
  const { rotate, openclaw } = await open(t, { alice: "active" });
  const begun = expectCode(await rotate("alice", "--reason", "a laptop was lost", "--json"), 0);
  assert.deepEqual(itemsOf(begun), { alice: BEGUN });
  for (const args of [[], ["--dry-run"]]) {
    const refused = expectCode(await rotate("alice", "--json", ...args), 5);
    assert.equal((documentOf(refused)["error"] as { code: string }).code, "rotation_under_way");
    assert.match(refused.stderr, /The keys of alice are being rotated since .*: the new keys are being made/);
  }
  const shown = documentOf(expectCode(await openclaw("tenant", "show", "alice", "--json"), 0))["keys"];
  const { rotation, ...keys } = shown as { rotation: Record<string, unknown> };
  assert.deepEqual(keys, { generation: 1, since: "2026-03-01T12:00:00.000Z" });
  assert.deepEqual(
    [rotation["generation"], rotation["phase"], rotation["reason"], rotation["trouble"]],
    [2, "minting", "a laptop was lost", null],
  );
  const text = expectCode(await openclaw("tenant", "show", "alice"), 0).stdout;
  assert.match(
    text,
    /^keys +generation 1, made 2026-03-01T12:00:00Z; rotating to 2 since \S+: the new keys are being made$/m,
  );
  const { rows } = await database.pool.query("SELECT id FROM tenants");
  const [event] = await listTenantEvents(database.db, rows[0].id, 1);
  assert.deepEqual(
    [event?.action, event?.actor, event?.reason, event?.detail],
    ["tenant.keys-rotation", "ops", "a laptop was lost", { from: 1, to: 2 }],
  );
});

test("who has no keys is refused by name, left out of many, and nobody is rotated by leaving all out", async (t) => {
  const { rotate, rotations } = await open(t, { alice: "active", bob: "suspended", carol: "pending", dave: "deleted" });
  for (const slug of ["carol", "dave"])
    assert.match(expectCode(await rotate(slug), 5).stderr, /there are no keys to rotate/);
  assert.match(expectCode(await rotate("carol", "dave"), 5).stderr, /none of 2 succeeded/);
  for (const args of [[], ["alice", "--all"], ["--all", "--tier", "basic"]]) expectCode(await rotate(...args), 2);
  expectCode(await rotate("alice", "nobody"), 4);
  assert.equal(await rotations(), 0);
  const leftOut = { result: "left-out", generation: null, code: "no_keys" };
  const all = expectCode(await rotate("--all", "--json"), 0);
  assert.deepEqual(itemsOf(all), { alice: BEGUN, bob: BEGUN, carol: leftOut, dave: leftOut });
});

test("a dry run says what would happen and changes nothing (F88)", async (t) => {
  const { rotate, rotations } = await open(t, { alice: "active", carol: "pending" });
  const dry = expectCode(await rotate("--all", "--dry-run", "--json"), 0);
  assert.deepEqual(itemsOf(dry)["alice"], { ...BEGUN, result: "would-rotate" });
  assert.match(expectCode(await rotate("alice", "--dry-run"), 0).stdout, /^alice +would-rotate +generation 2/m);
  assert.equal(await rotations(), 0);
});

test("selectors choose, and when only some succeed it is exit 7 with a result for each", async (t) => {
  const { rotate } = await open(t, { alice: "active", bob: "suspended", carol: "active" });
  assert.deepEqual(itemsOf(expectCode(await rotate("--tag", "tag-carol", "--json"), 0)), { carol: BEGUN });
  const refused = { result: "refused", generation: null, code: "rotation_under_way" };
  const some = expectCode(await rotate("--status", "active", "suspended", "--json"), 7);
  assert.deepEqual(itemsOf(some), { alice: BEGUN, bob: BEGUN, carol: refused });
  const again = expectCode(await rotate("alice", "alice"), 5);
  assert.match(again.stderr, /The keys of alice/);
  assert.equal(expectCode(await rotate("--tag", "none"), 0).stderr, "No tenants match.\n");
});

test("waiting for what no daemon does ends as exit 9, with how far it got", async (t) => {
  const { rotate } = await open(t, { alice: "active" });
  const late = expectCode(await rotate("alice", "--wait", "--timeout", "0"), 9);
  assert.match(late.stderr, /alice: the new keys are being made. Is a daemon running\?/);
});

test("interrupted while it waits, it has printed one document, and the rotation goes on", async (t) => {
  const { openclaw, rotations } = await open(t, { alice: "active" });
  const isBegun = async () => (await rotations()) === 1;
  const outcome = await openclaw.interrupted(isBegun, "tenant", "rotate-keys", "alice", "--wait", "--json");
  const { error } = documentOf(expectCode(outcome, 130));
  assert.deepEqual(error, { code: "interrupted", message: "It was interrupted." });
  assert.equal(await rotations(), 1);
});
