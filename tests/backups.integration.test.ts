import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { sql } from "kysely";
import { packageRoot } from "../src/core/platform/package-root.ts";
import { createTestDatabase, type TestDatabase } from "../src/core/testing/database.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { documentOf, expectCode, openFolder, temporaryFolder } from "./command.ts";
import { call, startDaemon } from "./daemon-process.ts";

const BOT_TOKEN = "4242:loopback-bot-token";
const SECRET = "webhook-secret";
const CHAT = 111_222_333;
const PATIENCE_MS = 45_000;
const PASSPHRASE = "a passphrase for backups";

/** A daemon with one tenant, alice, whose runtime is up, and the command line beside it. */
async function openStage(t: TestContext) {
  // While there is a daemon to do it: hooks run in the order they are given.
  t.after(async () => {
    for (const slug of ["alice", "bob"]) await openclaw("tenant", "deprovision", slug, "--confirm", slug, "--wait");
  });
  const database = await createTestDatabase();
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  const env = {
    DATABASE_URL: database.url,
    OPENCLAW_DATA_DIR: await temporaryFolder(t),
    OPENCLAW_BACKUP_PASSPHRASE: PASSPHRASE,
    TELEGRAM_API_ROOT: telegram.url,
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
    TELEGRAM_WEBHOOK_SECRET: SECRET,
  };
  const openclaw = await openFolder(t, env);
  const daemon = await startDaemon(t, env);
  t.after(() => telegram.close());
  t.after(() => database[Symbol.asyncDispose]());
  await daemon.saw("working");
  const create = (slug: string, chat: number) =>
    openclaw("tenant", "create", slug, "--email", `${slug}@example.com`, "--chat", String(chat), "--billing-exempt");
  expectCode(await create("alice", CHAT), 0);
  expectCode(await openclaw("tenant", "provision", "alice", "--wait"), 0);
  let updates = 0;
  const write = async (text: string): Promise<void> => {
    updates += 1;
    const from = { id: CHAT, is_bot: false, first_name: "Alice" };
    const chat = { id: CHAT, type: "private" };
    const message = { message_id: updates, date: 1_800_000_000, chat, from, text };
    const { status } = await call(`${daemon.publicUrl}/webhooks/telegram`, {
      method: "POST",
      headers: { "x-telegram-bot-api-secret-token": SECRET, "content-type": "application/json" },
      body: JSON.stringify({ update_id: updates, message }),
    });
    assert.equal(status, 200);
  };
  const answers = () => telegram.messages(CHAT).length;
  const runtimes = path.join(env.OPENCLAW_DATA_DIR, "runtimes");
  return { database, openclaw, env, create, write, answers, runtimes, files: await temporaryFolder(t) };
}

/** Has the times over that a runtime is left alone before it is stopped, until `done`. */
async function hurry<Result>({ db }: TestDatabase, done: Promise<Result>): Promise<Result> {
  const isOver = done.then(
    () => true,
    () => true,
  );
  while (!(await Promise.race([isOver, delay(300, false)]))) {
    await sql`UPDATE tenants SET hibernated_at = hibernated_at - interval '1 minute'`.execute(db);
    await sql`UPDATE runtimes SET observed_at = observed_at - interval '1 minute'`.execute(db);
    await sql`UPDATE runtime_calls SET at = at - interval '10 minutes'`.execute(db);
    await sql`UPDATE telegram_updates SET finished_at = finished_at - interval '10 minutes'`.execute(db);
    await sql`
      SELECT graphile_worker.reschedule_jobs(array_agg(id), run_at => now())
      FROM graphile_worker.jobs WHERE task_identifier = 'tenant.converge'`.execute(db);
  }
  return done;
}

async function until(isSo: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await isSo())) {
    assert.ok(performance.now() < deadline, `waited in vain for ${isSo.toString()}`);
    await delay(50);
  }
}

async function isMeantToSleep({ db }: TestDatabase): Promise<boolean> {
  const { rows } = await sql`SELECT FROM tenants WHERE hibernated_at IS NOT NULL`.execute(db);
  return rows.length > 0;
}

test("an awake assistant is backed up while people write: nothing is lost or answered twice, and it is awake again", async (t) => {
  const { database, openclaw, write, answers, files } = await openStage(t);
  await write("before");
  await until(() => answers() === 1);
  const file = path.join(files, "alice.sealed");
  const exporting = openclaw("tenant", "export", "alice", "--output", file, "--json");
  await until(() => isMeantToSleep(database));
  await write("while it goes to sleep");
  await until(async () => !(await isMeantToSleep(database)));
  const outcome = expectCode(await hurry(database, exporting), 0);
  const { archive, backup, woken } = documentOf(outcome) as Record<string, Record<string, unknown>>;
  assert.deepEqual([archive?.["file"], archive?.["encrypted"], archive?.["verified"]], [file, true, true]);
  assert.deepEqual([backup?.["slug"], woken], ["alice", true]);
  assert.match(outcome.stderr, /goes to sleep once it is quiet/);
  assert.deepEqual(await readdir(files), ["alice.sealed"]);
  const { mode, size } = await stat(file);
  assert.deepEqual([mode & 0o777, size], [0o600, archive?.["bytes"]]);

  await write("afterwards");
  await until(() => answers() === 3);
  const events = expectCode(await openclaw("tenant", "events", "alice"), 0).stdout;
  assert.match(events, /tenant\.exported.*files=\d+.*encrypted=true/);
  assert.doesNotMatch(events, /afterwards|while it goes/);

  // What came after the backup is forgotten with it, and what came before is known.
  const dry = expectCode(await openclaw("tenant", "import", "alice", file, "--dry-run"), 0);
  assert.match(dry.stderr, /The backup is whole\. Would do: This replaces all that the assistant of alice keeps/);
  expectCode(await openclaw("tenant", "import", "alice", file), 2);
  expectCode(await openclaw("tenant", "import", "alice", file, "--confirm", "bob"), 2);
  assert.equal(await isMeantToSleep(database), false);
  const importing = openclaw("tenant", "import", "alice", file, "--confirm", "alice", "--wait", "--json");
  const imported = documentOf(expectCode(await hurry(database, importing), 0));
  assert.deepEqual([imported["imported"], imported["woken"]], [true, true]);
  assert.deepEqual(
    (documentOf(await openclaw("tenant", "show", "alice", "--json"))["runtime"] as { state: string }).state,
    "running",
  );
  await write("in the restored one");
  await until(() => answers() === 4);
  assert.match(expectCode(await openclaw("tenant", "events", "alice"), 0).stdout, /tenant\.imported/);
});

test("a backup goes to standard output, into another tenant before it first ran, and past its own deletion", async (t) => {
  const { database, openclaw, create, write, answers, runtimes, files } = await openStage(t);
  await write("remember this");
  await until(() => answers() === 1);
  const file = path.join(files, "plain");
  const toFile = openclaw.to(file, "tenant", "export", "alice", "--unencrypted", "--output", "-");
  const outcome = expectCode(await hurry(database, toFile), 0);
  assert.match(outcome.stderr, /not read back/);
  assert.deepEqual([...(await readFile(file)).subarray(0, 2)], [0x1f, 0x8b]);

  expectCode(await create("bob", 4_001), 0);
  const dry = expectCode(await openclaw("tenant", "import", "bob", file, "--dry-run", "--json"), 0);
  assert.match(dry.stderr, /ANOTHER TENANT'S/);
  const moved = expectCode(await openclaw("tenant", "import", "bob", file, "--confirm", "bob"), 0);
  assert.match(moved.stderr, /bob has alice's backup of .*; it is pending, and finds it when it runs/);
  const bob = String(documentOf(await openclaw("tenant", "show", "bob", "--json"))["id"]);
  const journal = path.join(runtimes, bob, "state", "sandbox", "inbox.jsonl");
  assert.match(await readFile(journal, "utf8"), /"kind":"done"/);
  expectCode(await openclaw("tenant", "provision", "bob", "--wait"), 0);
  assert.match(await readFile(journal, "utf8"), /"kind":"done"/);

  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
  const kept = path.join(files, "kept");
  expectCode(await openclaw("tenant", "export", "alice", "--output", kept), 0);
  assert.match(
    expectCode(await openclaw("tenant", "import", "alice", kept, "--confirm", "alice"), 5).stderr,
    /restore alice/,
  );
  expectCode(await openclaw("tenant", "restore", "alice", "--unpaid"), 0);
  expectCode(await openclaw("tenant", "import", "alice", kept, "--confirm", "alice"), 0);
});

test("what can't be done is said, and leaves nothing behind", async (t) => {
  const { openclaw, create, env, files } = await openStage(t);
  expectCode(await create("bob", 4_001), 0);
  const without = await openFolder(t, { ...env, OPENCLAW_BACKUP_PASSPHRASE: "" });
  const file = path.join(files, "alice");
  const say = async (code: number, args: string[], expected: RegExp, run = openclaw) =>
    assert.match(expectCode(await run("tenant", ...args), code).stderr, expected);

  await say(3, ["export", "alice"], /OPENCLAW_BACKUP_PASSPHRASE.*--passphrase-file.*--unencrypted/, without);
  await say(2, ["export", "alice", "--unencrypted", "--passphrase-file", "x"], /exclude each other/);
  await say(2, ["export", "alice", "--passphrase-file", path.join(files, "none")], /--passphrase-file: ENOENT/);
  await writeFile(path.join(files, "short"), "short\n");
  await say(2, ["export", "alice", "--passphrase-file", path.join(files, "short")], /12 characters/);
  await say(2, ["export", "alice", "--output", "-", "--json"], /--json/);
  await say(5, ["export", "alice", "--output", path.join(files, "short")], /is there already.*--overwrite/);
  await say(6, ["export", "alice", "--output", path.join(files, "nowhere", "alice")], /can't be written.*nowhere/);
  await say(4, ["export", "nobody"], /No tenant "nobody"/);
  await say(4, ["export", "bob", "--output", file], /Nothing is kept for bob/);
  await say(9, ["export", "alice", "--output", file, "--timeout", "0"], /did not come to rest within 0 s/);

  expectCode(await openclaw("tenant", "suspend", "alice"), 0);
  expectCode(await openclaw("tenant", "export", "alice", "--output", file), 0);
  const gone = await openclaw.to("closed", "tenant", "export", "alice", "--output", "-");
  assert.match(expectCode(gone, 6).stderr, /can't be written to standard output/);
  const full = await openclaw.to("/dev/full", "tenant", "export", "alice", "--output", "-");
  assert.match(expectCode(full, 6).stderr, /can't be written to standard output: ENOSPC/);
  const sealed = await readFile(file);
  await say(4, ["import", "alice", path.join(files, "none")], /There is no/);
  await say(2, ["import", "alice", files], /not a file/);
  await say(2, ["import", "alice", path.join(files, "short")], /none of openclaw tenant export/);
  await say(3, ["import", "alice", file], /is encrypted.*OPENCLAW_BACKUP_PASSPHRASE/, without);
  await writeFile(path.join(files, "other"), "another passphrase, as long");
  await say(3, ["import", "alice", file, "--passphrase-file", path.join(files, "other")], /another passphrase/);
  await truncate(file, sealed.length - 20);
  await say(3, ["import", "alice", file, "--confirm", "alice"], /damaged/);
  const elsewhere = await openFolder(t, { ...env, OPENCLAW_RUNTIME: "azure", ...AZURE });
  await say(2, ["export", "alice", "--unencrypted"], /snapshot.*leave out --unencrypted/, elsewhere);
  await say(2, ["export", "alice", "--output", "x", "--max-size", "3"], /leave out --output, --max-size/, elsewhere);
  await say(2, ["import", "alice", file], /--snapshot <time>/, elsewhere);
  await say(2, ["import", "alice"], /from a file of openclaw tenant export/);
  await say(2, ["import", "alice", "--snapshot", "2026-03-01T12:00:00Z"], /without --snapshot/);
  assert.deepEqual((await readdir(files)).toSorted(), ["alice", "other", "short"]);
});

test("an export that is interrupted leaves the assistant awake and no file", async (t) => {
  const { database, env, files, write, answers } = await openStage(t);
  const args = ["tenant", "export", "alice", "--output", path.join(files, "alice")];
  const child = spawn(process.execPath, [path.join(packageRoot(), "bin", "openclaw.js"), ...args], {
    env: { PATH: path.dirname(process.execPath), OPENCLAW_ACTOR: "ops", ...env },
    cwd: files,
    stdio: "ignore",
  });
  const exit = exitOf(child);
  await until(() => isMeantToSleep(database));
  assert.equal((await readdir(files)).length, 1);
  child.kill("SIGINT");
  assert.equal(await exit, 130);
  assert.equal(await isMeantToSleep(database), false);
  assert.deepEqual(await readdir(files), []);
  await write("are you there");
  await until(() => answers() === 1);
});

async function exitOf(child: ChildProcess): Promise<number | null> {
  await once(child, "exit");
  return child.exitCode;
}

const AZURE = {
  AZURE_SUBSCRIPTION_ID: "12345678-1234-1234-1234-123456789abc",
  AZURE_RESOURCE_GROUP: "openclaw",
  AZURE_LOCATION: "westeurope",
  AZURE_CONTAINER_ENV_ID:
    "/subscriptions/12345678-1234-1234-1234-123456789abc/resourceGroups/openclaw/providers/Microsoft.App/managedEnvironments/env",
  AZURE_KEY_VAULT_NAME: "openclaw-vault",
  AZURE_STORAGE_ACCOUNT: "openclawstate",
};
