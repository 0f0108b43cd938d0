import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { sql } from "kysely";
import { COMMANDS } from "../src/commands/command-tree.ts";
import { createEmptyTestDatabase, createTestDatabase } from "../src/core/testing/database.ts";
import { documentOf, expectCode, openFolder, type Outcome, temporaryFolder } from "./command.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());
beforeEach(() => sql`TRUNCATE tenants, audit_log CASCADE`.execute(database.db));

const withDatabase = () => ({ DATABASE_URL: database.url });
const nowhere = { DATABASE_URL: "postgres://nobody@127.0.0.1:1/none" };
const create = (slug: string, ...more: string[]) => [
  "tenant",
  "create",
  slug,
  "--email",
  `${slug}@example.com`,
  ...more,
];

async function written(): Promise<{ tenants: number; audit: number }> {
  const { rows } = await sql<{ tenants: number; audit: number }>`
    SELECT (SELECT count(*) FROM tenants) AS tenants, (SELECT count(*) FROM audit_log) AS audit`.execute(database.db);
  assert.ok(rows[0]);
  return rows[0];
}

function errorOf(outcome: Outcome): { code: string; message: string } {
  const { error } = documentOf(outcome);
  assert.ok(typeof error === "object" && error !== null && "code" in error && "message" in error, outcome.stdout);
  return { code: String(error.code), message: String(error.message) };
}

test("a tenant is created, listed, shown and changed, each as one document or as text", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  const created = expectCode(await openclaw(...create("alice", "--chat", "4001", "--tag", "vip", "--tag", "eu")), 0);
  assert.match(created.stdout, /^[0-9a-f-]{36}\n$/);
  assert.match(created.stderr, /Created alice \(pending\)/);
  const shown = documentOf(expectCode(await openclaw("tenant", "show", "alice", "--json"), 0));
  assert.deepEqual([shown["slug"], shown["tags"], shown["tier"]], ["alice", ["vip", "eu"], "basic"]);
  expectCode(await openclaw("tenant", "update", created.stdout.trim(), "--tier", "plus"), 0);
  const listed = documentOf(expectCode(await openclaw("tenant", "list", "--tier", "plus", "--json"), 0));
  assert.ok(Array.isArray(listed["tenants"]) && listed["tenants"].length === 1);
  const table = expectCode(await openclaw("tenant", "list"), 0);
  assert.match(table.stdout, /^SLUG +STATUS +TIER/);
  assert.doesNotMatch(table.stdout, /\p{Cc}\[/u);
  const events = expectCode(await openclaw("tenant", "events", "alice"), 0);
  assert.match(events.stdout, /ops +tenant\.created/);
  assert.match(events.stdout, /tier=basic → plus/);
});

const malformed: Record<string, string[]> = {
  "a bad slug": ["tenant", "create", "Alice!", "--email", "alice@example.com"],
  "a bad e-mail": ["tenant", "create", "alice", "--email", "alice"],
  "no e-mail": ["tenant", "create", "alice"],
  "preferences that are no JSON": create("alice", "--preferences", "{oops"),
  "preferences that are no object": create("alice", "--preferences", "[1]"),
  "a chat that is no number": create("alice", "--chat", "12x"),
  "a chat beyond what is exact": create("alice", "--chat", "99999999999999999999"),
  "a group chat": create("alice", "--chat", "-100123"),
  "a tier that doesn't exist": create("alice", "--tier", "gold"),
  "an unknown time zone": create("alice", "--time-zone", "Mars/Olympus"),
  "days that are no number": create("alice", "--trial-days", "soon"),
  "an unknown option": create("alice", "--colour", "red"),
  "one argument too many": create("alice", "bob"),
};
/** What is out of range or of the wrong form: the option that is at fault, and what it may be. */
const outOfRange: [args: string[], problem: RegExp][] = [
  [create("alice", "--idempotency-key", ""), /--idempotency-key .*1 to 200 characters/],
  [create("alice", "--idempotency-key", "k".repeat(201)), /--idempotency-key .*1 to 200 characters/],
  [create("alice", "--name", "n".repeat(201)), /--name .*1 to 200 characters/],
  [create("alice", "--trial-days", "366"), /--trial-days .*from 0 to 365/],
  [create("alice", "--trial-days", "-1"), /--trial-days .*from 0 to 365/],
  [create("alice", "--chat", "0"), /--chat .*a private chat: a positive number/],
  [create("alice", "--time-zone", "Mars/Olympus"), /--time-zone is not an IANA time zone/],
  [create("alice", "--tag", "Ä"), /--tag must be 1 to 63 of/],
  [create("alice", ...Array.from({ length: 51 }, (_, tag) => ["--tag", `t${tag}`]).flat()), /--tag .*at most 50/],
  [["tenant", "create", "alice", "--email", `${"a".repeat(60)}@${"b.".repeat(110)}de`], /--email .*at most 254/],
  [
    ["tenant", "create", "A", "--email", "a@example.com", "--language", "x"],
    /<slug> must be 3 to 32 .*; --language is/,
  ],
  [["tenant", "provision", "alice", "--timeout", "-1"], /--timeout .*from 0 to 86400/],
  [["tenant", "deprovision", "alice", "--timeout", "1.5"], /--timeout .*from 0 to 86400/],
  [["tenant", "events", "alice", "--limit", "0"], /--limit .*from 1 to 1000000/],
  [["tenant", "link", "alice", "--chat", "-5"], /--chat .*a private chat: a positive number/],
  [["route", "lanes", "--limit", "0"], /--limit .*from 1 to 1000000/],
  [["route", "simulate", "--chat", "5", "--age", "-1"], /--age .*from 0 to/],
];
test("text that would steer a terminal is refused, naming the option", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  expectCode(await openclaw(...create("alice")), 0);
  const before = await written();
  for (const text of ["\u001b[2Jx", "two\nlines", "\u202eevil", "\u009b31m"]) {
    for (const [args, option] of [
      [create("bob", "--name", text), "--name"],
      [create("bob", "--idempotency-key", text), "--idempotency-key"],
      [create("bob", "--tag", text), "--tag"],
      [["tenant", "update", "alice", "--name", text], "--name"],
      [["tenant", "provision", "alice", "--reason", text], "--reason"],
      [["tenant", "suspend", "alice", "--reason", text], "--reason"],
      [["tenant", "resume", "alice", "--reason", text], "--reason"],
      [["tenant", "deprovision", "alice", "--confirm", "alice", "--reason", text], "--reason"],
      [["route", "dead-letters", "replay", "--all", "--reason", text], "--reason"],
      [["route", "dead-letters", "drop", "--all", "--reason", text], "--reason"],
    ] as const) {
      const { stderr } = expectCode(await openclaw(...args), 2);
      assert.ok(stderr.includes(option), stderr);
    }
  }
  assert.deepEqual(await written(), before);
});

test("whatever is stored is shown without steering the terminal, in tables, fields, messages and documents", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  expectCode(await openclaw(...create("alice")), 0);
  const evil = "\u001b[2J\u009b1m\u202e\nalice active";
  await sql`UPDATE tenants SET display_name = ${evil}, status_reason = ${evil}, tags = ${[evil]}`.execute(database.db);
  await sql`UPDATE audit_log SET reason = ${evil}, actor = ${evil}, detail = ${JSON.stringify({ evil })}`.execute(
    database.db,
  );
  const asked = [["list"], ["list", "--json"], ["show", "alice"], ["show", "alice", "--json"], ["events", "alice"]];
  for (const words of [...asked, ["events", "alice", "--json"], ["show", evil], ["show", evil, "--json"]]) {
    const { stdout, stderr } = await openclaw("tenant", ...words);
    assert.doesNotMatch(stdout + stderr, /[^\P{Cc}\n]|\u202e/u, words.join(" "));
    assert.doesNotMatch(stdout, /^alice active/m, words.join(" "));
  }
  const shown = documentOf(await openclaw("tenant", "show", "alice", "--json"));
  assert.deepEqual([shown["displayName"], shown["tags"]], [evil, [evil]]);
  assert.match((await openclaw("tenant", "show", "alice")).stdout, /^name +\\u001b\[2J\\u009b1m\\u202e\\u000aalice/m);
});

test("an option out of its range is exit 2, naming the option and what it may be", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  for (const [args, problem] of outOfRange) {
    const { stderr } = expectCode(await openclaw(...args), 2);
    assert.match(stderr, problem);
    assert.doesNotMatch(stderr, /Too big|Too small|Invalid|expected/);
  }
  assert.deepEqual(await written(), { tenants: 0, audit: 0 });
});

for (const [what, args] of Object.entries(malformed)) {
  test(`${what} is exit 2 with one document, and writes nothing`, async (t) => {
    const openclaw = await openFolder(t, withDatabase());
    const outcome = expectCode(await openclaw(...args, "--json"), 2);
    assert.notEqual(errorOf(outcome).code, "unexpected");
    assert.match(outcome.stderr, /^error: /);
    assert.doesNotMatch(outcome.stderr, /\n\s+at /);
    assert.deepEqual(await written(), { tenants: 0, audit: 0 });
  });
}

test("all configuration problems come out at once, without secrets, as exit 3", async (t) => {
  const openclaw = await openFolder(t, {
    DATABASE_URL: "mysql://root:hunter2@db",
    OPENCLAW_TRIAL_DAYS: "many",
    OPENCLAW_LOG_LEVEL: "loud",
    TELEGRAM_BOT_TOKEN: "hunter3",
  });
  const outcome = expectCode(await openclaw("tenant", "list", "--json"), 3);
  for (const name of ["DATABASE_URL", "OPENCLAW_TRIAL_DAYS", "OPENCLAW_LOG_LEVEL", "TELEGRAM_BOT_TOKEN"]) {
    assert.match(outcome.stderr, new RegExp(`^error: ${name} .*expected`, "m"));
    assert.ok(errorOf(outcome).message.includes(name));
  }
  assert.doesNotMatch(outcome.stdout + outcome.stderr, /hunter/);
});

test("a data folder that can't be made or written is exit 3 and says what to set, at once", async (t) => {
  const file = path.join(await temporaryFolder(t), "file");
  await writeFile(file, "");
  // What root may not do either.
  const unusable = [
    path.join(file, "data"),
    file,
    ...(process.platform === "linux" ? ["/proc/openclaw", "/proc"] : []),
  ];
  for (const folder of unusable) {
    const openclaw = await openFolder(t, { OPENCLAW_DATA_DIR: folder });
    for (const words of [["tenant", "list"], ["daemon"], ["quickstart", "--exit"]]) {
      const { stderr } = expectCode(await openclaw(...words), 3);
      assert.match(stderr, /^error: OPENCLAW_DATA_DIR: .*can't be used.*Set it to/m, `${words.join(" ")} in ${folder}`);
    }
  }
});

test("an unknown tenant is exit 4 for every command that takes one", async (t) => {
  const openclaw = await openFolder(t, { ...withDatabase(), TELEGRAM_BOT_TOKEN: "123456789:AAEexampleexample" });
  const commands = Object.keys(groupOf("tenant")).filter((name) => !["create", "list"].includes(name));
  const needed: Record<string, string[]> = { update: ["--tier", "plus"], import: ["no-such-backup"] };
  for (const name of commands) {
    const more = needed[name] ?? [];
    const json = name === "logs" ? [] : ["--json"];
    const outcome = expectCode(await openclaw("tenant", name, "nobody", ...more, ...json), 4);
    if (json.length > 0) assert.equal(errorOf(outcome).code, "tenant_not_found");
    else assert.equal(outcome.stdout, "");
    assert.match(outcome.stderr, /No tenant "nobody"/);
  }
});

test("a taken slug, e-mail or chat is exit 5, names the holder and writes nothing", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  expectCode(await openclaw(...create("alice", "--chat", "4001")), 0);
  const before = await written();
  const attempts = [
    create("alice"),
    ["tenant", "create", "bob", "--email", "ALICE@example.com"],
    create("bob", "--chat", "4001"),
  ];
  for (const args of attempts) {
    const outcome = expectCode(await openclaw(...args, "--json"), 5);
    assert.equal(errorOf(outcome).code, "tenant_exists");
    assert.match(outcome.stderr, /belongs to tenant alice/);
  }
  assert.deepEqual(await written(), before);
});

test("what the state or the entitlement forbids is exit 5 and names the remedy", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  expectCode(await openclaw(...create("alice")), 0);
  assert.match(expectCode(await openclaw("tenant", "provision", "alice"), 5).stderr, /update alice --billing-exempt/);
  assert.match(expectCode(await openclaw("tenant", "suspend", "alice"), 5).stderr, /alice is pending/);
  assert.match(expectCode(await openclaw("tenant", "resume", "alice"), 5).stderr, /not suspended/);
  assert.equal((await written()).audit, 1);
});

test("an unreachable database is exit 6, for reading, writing and migrating", async (t) => {
  const openclaw = await openFolder(t, nowhere);
  for (const args of [
    ["tenant", "list"],
    create("alice"),
    ["migrate"],
    ["migrate", "--check"],
    ["migrate", "--status"],
  ]) {
    const outcome = expectCode(await openclaw(...args, "--json"), 6);
    assert.match(errorOf(outcome).code, /unreachable/);
    assert.match(outcome.stderr, /DATABASE_URL/);
  }
});

test("a database without the schema is exit 3 and names migrate", async (t) => {
  await using empty = await createEmptyTestDatabase();
  const openclaw = await openFolder(t, { DATABASE_URL: empty.url });
  for (const args of [["tenant", "list"], create("alice")]) {
    const outcome = expectCode(await openclaw(...args, "--json"), 3);
    assert.equal(errorOf(outcome).code, "not_migrated");
    assert.match(outcome.stderr, /run: openclaw migrate/);
  }
});

test("an unknown word is exit 2 and suggests the nearest", async (t) => {
  const openclaw = await openFolder(t, nowhere);
  assert.match(expectCode(await openclaw("tennant"), 2).stderr, /tenant/);
  assert.match(expectCode(await openclaw("tenant", "lst"), 2).stderr, /Did you mean list\?/);
  assert.match(expectCode(await openclaw("tenant", "list", "--tyer", "plus"), 2).stderr, /Did you mean --tier\?/);
  expectCode(await openclaw("tenant"), 2);
  assert.match(expectCode(await openclaw("help", "tennant"), 2).stderr, /Did you mean tenant\?/);
  assert.match(expectCode(await openclaw("help", "tenant", "lst"), 2).stderr, /Did you mean list\?/);
  assert.match(expectCode(await openclaw("tenant", "lst", "--help"), 2).stderr, /Did you mean list\?/);
  expectCode(await openclaw("help", "constructor"), 2);
  assert.match(expectCode(await openclaw("help", "tenant"), 0).stdout, /^ {2}create /m);
});

test("a reader that has gone ends a command quietly, and a full disk is said in one line", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  expectCode(await openclaw(...create("alice")), 0);
  const printing = [["tenant", "list"], ["tenant", "list", "--json"], ["route", "lanes", "--watch"], ["--help"]];
  for (const words of [...printing, ["nonsense", "--json"]]) {
    const gone = await openclaw.to("closed", ...words);
    assert.equal(gone.code, words[0] === "nonsense" ? 2 : 0);
    assert.doesNotMatch(gone.stderr, /EPIPE|bug|\n\s+at /);
    if (process.platform !== "linux") continue;
    const full = await openclaw.to("/dev/full", ...words);
    assert.match(full.stderr, /^error: the output can't be written: ENOSPC.*$/m);
    assert.doesNotMatch(full.stderr, /bug|\n\s+at /);
    assert.equal(full.code, words[0] === "nonsense" ? 2 : 6);
  }
});

test("help works without a database, and shows an example for every command", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: "nonsense" });
  for (const words of leaves()) {
    const { stdout } = expectCode(await openclaw(...words, "--help"), 0);
    assert.match(stdout, new RegExp(`Examples?:\\n  (.* )?openclaw ${words.join(" ")}`));
    if (!["logs", "daemon"].includes(words.at(-1) ?? "")) assert.match(stdout, /--json/);
  }
  assert.equal(
    (await openclaw("help", "tenant", "create")).stdout,
    (await openclaw("tenant", "create", "--help")).stdout,
  );
  const top = expectCode(await openclaw("--help"), 0);
  for (const name of Object.keys(COMMANDS.commands)) assert.match(top.stdout, new RegExp(`^  ${name} `, "m"));
});

test("the version is printed without configuration or database, as text and as a document", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: "nonsense" });
  assert.match(expectCode(await openclaw("--version"), 0).stdout, /^openclaw \d+\.\d+\.\d+ \(build \S+, Node v?\d+/);
  assert.deepEqual(Object.keys(documentOf(await openclaw("version", "--json"))), ["version", "build", "node"]);
});

test("off a terminal a removal needs its confirmation, and a dry run changes nothing (F88)", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  expectCode(await openclaw(...create("alice")), 0);
  const before = await written();
  const unconfirmed = expectCode(await openclaw("tenant", "deprovision", "alice", "--json"), 2);
  assert.equal(errorOf(unconfirmed).code, "not_confirmed");
  assert.match(unconfirmed.stderr, /--confirm alice/);
  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "bob"), 2);
  expectCode(await openclaw("tenant", "deprovision", "alice", "--no-input"), 2);
  const dry = expectCode(await openclaw("tenant", "deprovision", "alice", "--dry-run", "--json"), 0);
  assert.equal(documentOf(dry)["status"], "pending");
  assert.match(dry.stderr, /Would remove the runtime and keys of alice/);
  assert.deepEqual(await written(), before);
  const done = expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--json"), 0);
  assert.equal(documentOf(done)["status"], "deprovisioning");
});

test("a runtime is shown as it was observed, not as the fleet is configured (F48)", async (t) => {
  const openclaw = await openFolder(t, { ...withDatabase(), OPENCLAW_RUNTIME_IMAGE: "example.com/openclaw:9" });
  expectCode(await openclaw(...create("alice")), 0);
  assert.match((await openclaw("tenant", "show", "alice")).stdout, /^runtime +none$/m);
  const see = (state: string, address: string | null, image: string) => sql`
    INSERT INTO runtimes (tenant_id, driver, state, address, image, spec_hash, observed_at)
    SELECT id, 'local', ${state}, ${address}, ${image}, '', now() FROM tenants
    ON CONFLICT (tenant_id) DO UPDATE SET state = excluded.state, address = excluded.address, image = excluded.image`;
  await see("starting", null, "").execute(database.db);
  assert.match((await openclaw("tenant", "show", "alice")).stdout, /^runtime +starting$/m);
  await see("running", "http://127.0.0.1:7", "bundled sandbox runtime").execute(database.db);
  const { stdout } = await openclaw("tenant", "show", "alice");
  assert.match(stdout, /^runtime +running at http:\/\/127\.0\.0\.1:7 \(bundled sandbox runtime\)$/m);
});

test("a chat that refuses messages is shown with since when", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  expectCode(await openclaw(...create("alice", "--chat", "4001")), 0);
  const telegram = async () => documentOf(await openclaw("tenant", "show", "alice", "--json"))["telegram"];
  const open = { chatId: 4001, userId: 4001, username: null, closedAt: null };
  assert.deepEqual(await telegram(), open);
  assert.doesNotMatch((await openclaw("tenant", "show", "alice")).stdout, /^telegram/m);
  const closedAt = "2026-03-01T12:00:00.000Z";
  await sql`INSERT INTO telegram_closed_chats VALUES (4001, ${closedAt})`.execute(database.db);
  assert.deepEqual(await telegram(), { ...open, closedAt });
  const { stdout } = await openclaw("tenant", "show", "alice");
  assert.match(stdout, /^telegram +refuses messages since 2026-03-01T12:00:00Z/m);
});

test("an idempotency key repeated gives the same tenant and creates nothing", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  const args = create("alice", "--idempotency-key", "order-7", "--json");
  const first = documentOf(expectCode(await openclaw(...args), 0));
  assert.deepEqual(documentOf(expectCode(await openclaw(...args), 0)), first);
  const reused = expectCode(await openclaw(...create("bob", "--idempotency-key", "order-7", "--json")), 5);
  assert.equal(errorOf(reused).code, "idempotency_key_reused");
  assert.deepEqual(await written(), { tenants: 1, audit: 1 });
});

test("waiting for what no daemon does ends as exit 9", async (t) => {
  const openclaw = await openFolder(t, withDatabase());
  expectCode(await openclaw(...create("alice", "--trial-days", "3")), 0);
  const outcome = expectCode(await openclaw("tenant", "provision", "alice", "--wait", "--timeout", "0", "--json"), 9);
  assert.match(errorOf(outcome).message, /Is a daemon running\?/);
});

type Group = typeof COMMANDS;

function groupOf(name: string): Group["commands"] {
  const group = COMMANDS.commands[name];
  assert.ok(group !== undefined && "commands" in group);
  return group.commands;
}

function leaves(group: Group = COMMANDS): string[][] {
  return Object.entries(group.commands).flatMap(([name, child]) =>
    "commands" in child ? leaves(child).map((words) => [name, ...words]) : [[name]],
  );
}
