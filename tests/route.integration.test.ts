import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { systemClock } from "../src/core/platform/clock.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { shardOf } from "../src/core/router/update.ts";
import { createLink, createTenant } from "../src/core/tenants/tenants.ts";
import { createTestDatabase } from "../src/core/testing/database.ts";
import { documentOf, expectCode, openFolder } from "./command.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());
beforeEach(() =>
  database.pool.query(
    "TRUNCATE tenants, audit_log, telegram_updates, telegram_dead_letters, telegram_closed_chats RESTART IDENTITY CASCADE",
  ),
);

const CHAT = 4001;
const TEXT = "what Ann wrote";

async function addTenant(slug = "alice", chat = CHAT): Promise<string> {
  const ctx = { db: database.db, clock: systemClock, actor: { name: "test" } };
  const input = { slug, email: `${slug}@example.com`, telegramChatId: chat, billingExempt: true };
  return (await createTenant(ctx, input)).tenant.id;
}

function bodyOf(updateId: number, chat = CHAT, text = TEXT): Buffer {
  const from = { id: chat, is_bot: false, first_name: "Ann" };
  const message = { message_id: 1, date: 1_763_632_800, chat: { id: chat, type: "private" }, from, text };
  return Buffer.from(JSON.stringify({ update_id: updateId, message }));
}

/** A dead letter with the finished row it came from; gives its id. */
async function addLetter(updateId: number, tenantId: string | null, body = bodyOf(updateId)): Promise<number> {
  const { rows } = await database.pool.query(
    `WITH finished AS (
       INSERT INTO telegram_updates (bot_id, update_id, lane, shard, body, accepted_at, outcome, finished_at)
       VALUES (4242, $1, $2, $3, $4, now() - interval '1 h', 'dead', now()) RETURNING *
     )
     INSERT INTO telegram_dead_letters (seq, bot_id, update_id, lane, tenant_id, body, reason, accepted_at, died_at)
     SELECT seq, bot_id, update_id, lane, $5, body, 'the runtime refused it', accepted_at, finished_at FROM finished
     RETURNING id`,
    [updateId, CHAT, shardOf(CHAT), body, tenantId],
  );
  return rows[0].id;
}

async function addOpen(updateId: number, chat: number, age: string): Promise<void> {
  await database.pool.query(
    `INSERT INTO telegram_updates (bot_id, update_id, lane, shard, body, accepted_at)
     VALUES (4242, $1, $2, $3, $4, now() - $5::interval)`,
    [updateId, chat, shardOf(chat), bodyOf(updateId, chat), age],
  );
}

async function values(select: string): Promise<unknown[]> {
  return (await database.pool.query({ text: select, rowMode: "array" })).rows.flat();
}
const letters = () => values("SELECT update_id FROM telegram_dead_letters ORDER BY update_id");
const open = () => values("SELECT update_id FROM telegram_updates WHERE finished_at IS NULL ORDER BY seq");
const audited = () =>
  values(
    "SELECT actor || ' ' || action || coalesce(': ' || reason, '') FROM audit_log WHERE action ~ 'letter' ORDER BY id",
  );

const deadLetters = ["route", "dead-letters"];

test("dead letters are listed and shown as facts; the message itself only when asked for, and that is kept (F91)", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  const id = await addLetter(1, await addTenant(), bodyOf(1, CHAT, `${TEXT}\u202e\u009b`));
  await addLetter(2, null);
  const table = expectCode(await openclaw(...deadLetters, "list"), 0).stdout;
  assert.match(table, /^ID +GIVEN UP +TENANT/);
  assert.match(table, /alice +4001 +1 +message +\d+ +the runtime refused it/);
  const listed = documentOf(expectCode(await openclaw(...deadLetters, "list", "--tenant", "alice", "--json"), 0));
  assert.equal(listed["total"], 1);
  const shown = expectCode(await openclaw(...deadLetters, "show", String(id)), 0).stdout;
  assert.match(shown, /because +the runtime refused it/);
  const document = expectCode(await openclaw(...deadLetters, "show", String(id), "--json"), 0);
  for (const output of [table, JSON.stringify(listed), shown, document.stdout]) assert.ok(!output.includes("Ann"));
  assert.deepEqual(await audited(), []);
  const whole = expectCode(await openclaw(...deadLetters, "show", String(id), "--body"), 0).stdout;
  assert.ok(whole.includes(`"text": "${TEXT}\\u202e\\u009b"`), whole);
  assert.deepEqual(await audited(), ["ops dead-letter.read"]);
});

test("what is replayed waits for delivery again; letters that are not there are reported as exit 7, alone as exit 4", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  const first = await addLetter(1, null);
  const second = await addLetter(2, null);
  const dry = documentOf(expectCode(await openclaw(...deadLetters, "replay", "--all", "--dry-run", "--json"), 0));
  assert.deepEqual(dry, { wouldReplay: [first, second] });
  assert.deepEqual(await letters(), [1, 2]);
  const args = [String(second), "99", String(first), "--reason", "mended", "--json"];
  const some = documentOf(expectCode(await openclaw(...deadLetters, "replay", ...args), 7));
  assert.deepEqual(some["items"], [
    { id: first, result: "replayed" },
    { id: second, result: "replayed" },
    { id: 99, result: "gone" },
  ]);
  assert.deepEqual(await letters(), []);
  assert.deepEqual(await open(), [1, 2]);
  assert.deepEqual(await audited(), ["ops dead-letter.replayed: mended", "ops dead-letter.replayed: mended"]);
  const none = documentOf(expectCode(await openclaw(...deadLetters, "replay", String(first), "--json"), 4));
  assert.deepEqual(Object.keys(none), ["error"]);
  assert.match(expectCode(await openclaw(...deadLetters, "replay", "--all"), 0).stderr, /No dead letters match/);
});

test("dropping needs the tenant's slug or the number of letters, and a dry run drops nothing (F88)", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  const tenantId = await addTenant();
  const ids = [await addLetter(1, tenantId), await addLetter(2, tenantId), await addLetter(3, null)];
  for (const args of [[], ["--confirm", "1"], ["--confirm", "alice"], ["--no-input"]]) {
    const refused = expectCode(await openclaw(...deadLetters, "drop", "--all", ...args, "--json"), 2);
    assert.match(refused.stderr, /--confirm 3/);
  }
  expectCode(await openclaw(...deadLetters, "drop", "--tenant", "alice", "--confirm", "2"), 2);
  const dry = documentOf(expectCode(await openclaw(...deadLetters, "drop", "--all", "--dry-run", "--json"), 0));
  assert.deepEqual(dry, { wouldDrop: ids });
  assert.deepEqual(await letters(), [1, 2, 3]);
  const ofTenant = await openclaw(...deadLetters, "drop", "--tenant", "alice", "--confirm", "alice", "--json");
  assert.deepEqual(documentOf(expectCode(ofTenant, 0))["items"], [
    { id: ids[0], result: "dropped" },
    { id: ids[1], result: "dropped" },
  ]);
  assert.deepEqual(await letters(), [3]);
  expectCode(await openclaw(...deadLetters, "drop", String(ids[2]), "--confirm", "1"), 0);
  assert.deepEqual([await letters(), await open()], [[], []]);
  assert.equal((await audited()).length, 3);
});

const unclear: Record<string, string[]> = {
  "nothing picked": ["replay"],
  "ids and all": ["replay", "1", "--all"],
  "all of a tenant, and all": ["drop", "--all", "--tenant", "alice"],
  "an id that is no number": ["drop", "one"],
  "a time that is none": ["list", "--since", "yesterday"],
  "a limit of nothing": ["list", "--limit", "0"],
};
for (const [what, args] of Object.entries(unclear)) {
  test(`${what} is exit 2 and changes nothing`, async (t) => {
    const openclaw = await openFolder(t, { DATABASE_URL: database.url });
    await addLetter(1, null);
    const outcome = expectCode(await openclaw(...deadLetters, ...args, "--json"), 2);
    assert.deepEqual(Object.keys(documentOf(outcome)), ["error"]);
    assert.deepEqual(await letters(), [1]);
  });
}

test("a chat's route is shown by tenant and by chat, as text and as one document", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  const tenantId = await addTenant();
  await addOpen(5, CHAT, "90 min");
  await addOpen(6, CHAT, "30 s");
  await addLetter(7, tenantId);
  await database.pool.query("INSERT INTO telegram_closed_chats VALUES (4001, now() - interval '3 days')");
  const text = expectCode(await openclaw("route", "show", "alice"), 0).stdout;
  assert.match(text, /^chat +4001$/m);
  assert.match(text, /^status +pending/m);
  assert.match(text, /^entitled +yes: exempt from billing$/m);
  assert.match(text, /^shard +\d+, worked on by nobody$/m);
  assert.match(text, /^dead letters +1$/m);
  assert.match(text, /^bot blocked +yes, .*\(3d ago\)$/m);
  assert.match(text, /^next message +held until the tenant is provisioned$/m);
  assert.match(text, /^5 +message +1h 30m +given up with an apology/m);
  assert.match(text, /^6 +message +3\ds +waits for the one before$/m);
  const document = documentOf(expectCode(await openclaw("route", "show", String(CHAT), "--json"), 0));
  assert.deepEqual([document["chatId"], document["openCount"], document["deadLetters"]], [CHAT, 2, 1]);
  const stranger = expectCode(await openclaw("route", "show", "-100123"), 0).stdout;
  assert.match(stranger, /^tenant +none/m);
  assert.match(stranger, /privateOnly/);
  assert.ok(![text, JSON.stringify(document)].some((output) => output.includes(TEXT)));
  expectCode(await openclaw("route", "show", "nobody"), 4);
  await database.pool.query("UPDATE tenants SET telegram_chat_id = NULL");
  assert.match(expectCode(await openclaw("route", "show", "alice"), 5).stderr, /tenant link alice/);
});

test("lanes that wait are listed with totals", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  assert.equal(expectCode(await openclaw("route", "lanes"), 0).stdout, "0 updates wait in 0 lanes; 0 dead letters.\n");
  await addTenant();
  await addOpen(1, CHAT, "2 h");
  await addOpen(2, CHAT, "1 h");
  await addOpen(3, 77, "1 min");
  const text = expectCode(await openclaw("route", "lanes", "--limit", "1"), 0).stdout;
  assert.match(text, /^3 updates wait in 2 lanes \(1 shown\), the oldest 2h; 0 dead letters\.$/m);
  assert.match(text, /^4001 +alice +pending +2 +2h +\d+ +nobody$/m);
  assert.doesNotMatch(text, /^77/m);
  const document = documentOf(expectCode(await openclaw("route", "lanes", "--json"), 0));
  assert.ok(Array.isArray(document["lanes"]) && document["lanes"].length === 2);
  expectCode(await openclaw("route", "lanes", "--watch", "--json"), 2);
});

test("a simulation names the verdict and why, and changes nothing, not even a link token", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: database.url, TELEGRAM_BOT_TOKEN: "4242:AAEexampleexample" });
  const tenantId = await addTenant();
  await database.pool.query("UPDATE tenants SET status = 'active'");
  const runtime = `INSERT INTO runtimes (tenant_id, driver, state, address, image, spec_hash, allowed_user_id, observed_at)
    VALUES ($1, 'memory', 'running', 'http://127.0.0.1:9', 'test', 'test', $2, now())`;
  await database.pool.query(runtime, [tenantId, CHAT]);
  const { token } = await createLink(
    { db: database.db, clock: systemClock, actor: { name: "test" } },
    tenantId as TenantId,
  );
  const everything = () =>
    values(`SELECT count(*) FROM telegram_updates UNION ALL SELECT count(*) FROM telegram_notices
      UNION ALL SELECT count(*) FROM link_tokens WHERE consumed_at IS NULL AND revoked_at IS NULL
      UNION ALL SELECT count(*) FROM audit_log UNION ALL SELECT count(*) FROM telegram_known_ids`);
  const before = await everything();
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-simulate-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, "update.json");
  await writeFile(file, bodyOf(1));
  const cases: [args: string[], kind: string, why: RegExp][] = [
    [["--chat", String(CHAT)], "deliver", /127\.0\.0\.1:9/],
    [["--file", file], "deliver", /127\.0\.0\.1:9/],
    [["--file", file, "--age", "900"], "expire", /could not be reached in time/],
    [["--chat", String(CHAT), "--user", "9"], "ignore", /not the linked person/],
    [["--chat", String(CHAT), "--kind", "callback_query"], "deliver", /within the rate limit/],
    [["--chat", "5"], "answer", /onboarding/],
    [["--chat", "-100"], "answer", /privateOnly/],
    [["--chat", "5", "--text", `/start ${token}`], "link", /link token/],
  ];
  for (const [args, kind, why] of cases) {
    const document = documentOf(expectCode(await openclaw("route", "simulate", ...args, "--json"), 0));
    assert.deepEqual((document["verdict"] as { kind: string }).kind, kind, args.join(" "));
    assert.match(String(document["explanation"]), why);
    const text = expectCode(await openclaw("route", "simulate", ...args), 0).stdout;
    assert.match(text, new RegExp(`^verdict +${kind}$`, "m"));
    for (const output of [text, JSON.stringify(document)]) assert.ok(!output.includes(token) && !output.includes(TEXT));
  }
  assert.deepEqual(await everything(), before);
  for (const args of [[], ["--chat", "1", "--file", file], ["--file", file, "--text", "hi"], ["--file", folder]])
    expectCode(await openclaw("route", "simulate", ...args), 2);
  await writeFile(file, "nonsense");
  expectCode(await openclaw("route", "simulate", "--file", file), 2);
});
