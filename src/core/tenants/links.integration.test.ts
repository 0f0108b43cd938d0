import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { sql } from "kysely";
import { fixedClock } from "../platform/clock.ts";
import { ConflictError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { createDb, createPool } from "../platform/db.ts";
import { createTestDatabase } from "../testing/database.ts";
import {
  changeStatus,
  consumeLink,
  createLink,
  createTenant,
  findTenantByChat,
  findTenantsByChats,
  getTenant,
  linkChat,
  listTenantEvents,
  unlinkChat,
} from "./tenants.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

let clock = fixedClock(new Date("2026-03-01T12:00:00Z"));
beforeEach(async () => {
  clock = fixedClock(new Date("2026-03-01T12:00:00Z"));
  await sql`TRUNCATE tenants, audit_log CASCADE`.execute(database.db);
});

const context = () => ({ db: database.db, clock, actor: { name: "ops" } });
const ada = { chatId: 5001, userId: 5001, username: "ada" };
const bob = { chatId: 5002, userId: 5002, username: undefined };

async function newTenant(slug: string): Promise<TenantId> {
  return (await createTenant(context(), { slug, email: `${slug}@example.com` })).tenant.id;
}

test("a link binds the chat with its user once, and nobody can read its token in the database (F26)", async () => {
  const id = await newTenant("alice");
  const { token } = await createLink(context(), id);
  const { rows } = await sql<{ row: string }>`
    SELECT link_tokens::text AS row FROM link_tokens UNION ALL SELECT audit_log::text FROM audit_log`.execute(
    database.db,
  );
  for (const { row } of rows) {
    assert.equal(row.includes(token), false);
    assert.equal(row.includes(Buffer.from(token).toString("hex")), false);
  }
  assert.match(token, /^[A-Za-z0-9_-]{1,64}$/);
  assert.equal((await consumeLink(context(), token, ada)).kind, "linked");
  const tenant = await getTenant(database.db, "alice");
  assert.deepEqual([tenant.telegramChatId, tenant.telegramUserId, tenant.telegramUsername], [5001, 5001, "ada"]);
  assert.deepEqual(await consumeLink(context(), token, ada), { kind: "invalid" });
});

test("a newer link revokes the older ones of its tenant, and of no other (F26)", async () => {
  const id = await newTenant("alice");
  const older = await createLink(context(), id);
  const others = await createLink(context(), await newTenant("other"));
  const newer = await createLink(context(), id);
  assert.deepEqual(await consumeLink(context(), older.token, ada), { kind: "invalid" });
  assert.equal((await consumeLink(context(), newer.token, ada)).kind, "linked");
  assert.equal((await consumeLink(context(), others.token, bob)).kind, "linked");
});

test("a double tap links once (F26)", async () => {
  const id = await newTenant("alice");
  const { token } = await createLink(context(), id);
  const outcomes = await Promise.all(Array.from({ length: 6 }, () => consumeLink(context(), token, ada)));
  assert.equal(outcomes.filter(({ kind }) => kind === "linked").length, 1);
  assert.equal(outcomes.filter(({ kind }) => kind === "invalid").length, 5);
  const events = await listTenantEvents(database.db, id, 50);
  assert.equal(events.filter(({ action }) => action === "tenant.linked").length, 1);
});

test("taps and new links at once never lock one another out", async () => {
  const id = await newTenant("alice");
  for (let round = 0; round < 10; round++) {
    const { token } = await createLink(context(), id);
    await Promise.all([
      consumeLink(context(), token, ada),
      createLink(context(), id),
      consumeLink(context(), token, ada),
    ]);
  }
});

test("a link is good for less than 15 minutes", async () => {
  const id = await newTenant("alice");
  const late = await createLink(context(), id);
  clock.advance(15 * 60_000);
  assert.deepEqual(await consumeLink(context(), late.token, ada), { kind: "invalid" });
  const { token } = await createLink(context(), id);
  clock.advance(15 * 60_000 - 1);
  assert.equal((await consumeLink(context(), token, ada)).kind, "linked");
});

test("a chat of another tenant is an answer and no error, and the token stays usable (F27)", async () => {
  await linkChat(context(), await newTenant("alice"), ada);
  const { token } = await createLink(context(), await newTenant("bob"));
  const outcome = await consumeLink(context(), token, ada);
  assert.ok(outcome.kind === "chat-taken");
  assert.equal(outcome.tenant.slug, "alice");
  assert.equal((await consumeLink(context(), token, bob)).kind, "linked");
});

test("an operator who binds a taken chat is told whose it is and how to free it (F27)", async () => {
  await linkChat(context(), await newTenant("alice"), ada);
  const other = await newTenant("bob");
  await assert.rejects(
    linkChat(context(), other, ada),
    (error) => error instanceof ConflictError && error.message.includes("openclaw tenant unlink alice"),
  );
  assert.equal((await getTenant(database.db, "bob")).telegramChatId, null);
});

test("unlinking holds at once on every connection, revokes waiting links, and twice is fine (F21)", async (t) => {
  const id = await newTenant("alice");
  await linkChat(context(), id, ada);
  const elsewhere = createPool({ url: database.url, max: 1, applicationName: "test", onIdleError: () => undefined });
  t.after(() => elsewhere.end());
  const otherDb = createDb(elsewhere);
  assert.equal((await findTenantByChat(otherDb, ada.chatId))?.id, id);
  const { token } = await createLink(context(), id);
  await unlinkChat(context(), id);
  assert.equal(await findTenantByChat(otherDb, ada.chatId), undefined);
  assert.deepEqual(await findTenantsByChats(otherDb, [ada.chatId]), []);
  assert.deepEqual(await consumeLink(context(), token, ada), { kind: "invalid" });
  await unlinkChat(context(), id);
  const actions = (await listTenantEvents(database.db, id, 50)).map(({ action }) => action);
  assert.deepEqual(actions, ["tenant.created", "tenant.linked", "tenant.link-created", "tenant.unlinked"]);
});

test("a chat that was unlinked may be bound to another tenant", async () => {
  const first = await newTenant("alice");
  await linkChat(context(), first, ada);
  await unlinkChat(context(), first);
  await linkChat(context(), await newTenant("bob"), ada);
  assert.equal((await findTenantByChat(database.db, ada.chatId))?.slug, "bob");
});

test("a tenant that is on its way out can't be linked, neither anew nor by a link from before", async () => {
  const id = await newTenant("alice");
  const { token } = await createLink(context(), id);
  await database.db
    .transaction()
    .execute((tx) => changeStatus({ ...context(), db: tx }, id, { to: "deprovisioning", reason: "ended" }));
  assert.deepEqual(await consumeLink(context(), token, ada), { kind: "invalid" });
  await assert.rejects(createLink(context(), id), { code: "tenant_gone" });
  await assert.rejects(linkChat(context(), id, ada), { code: "tenant_gone" });
  assert.equal((await getTenant(database.db, "alice")).telegramChatId, null);
});
