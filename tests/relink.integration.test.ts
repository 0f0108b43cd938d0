import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import test from "node:test";
import { sql } from "kysely";
import { until } from "../src/core/adapters/runtime/contract.ts";
import { createTestDatabase } from "../src/core/testing/database.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { documentOf, expectCode, openFolder, temporaryFolder } from "./command.ts";
import { call, startDaemon } from "./daemon-process.ts";

const BOT_TOKEN = "4242:loopback-bot-token";
const SECRET = "webhook-secret";
const [ALICE, BERTA] = [111_222_333, 444_555_666];
/** Few: the bot writes to one chat once a second. */
const MESSAGES = 3;

test("not one update of a newly linked person reaches a runtime that names another, and none is lost", async (t) => {
  await using database = await createTestDatabase();
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  t.after(() => telegram.close());
  const env = {
    DATABASE_URL: database.url,
    OPENCLAW_DATA_DIR: await temporaryFolder(t),
    TELEGRAM_API_ROOT: telegram.url,
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
    TELEGRAM_WEBHOOK_SECRET: SECRET,
  };
  const daemon = await startDaemon(t, env);
  await daemon.saw("working");
  const openclaw = await openFolder(t, env);
  const owner = ["--email", "alice@example.com", "--chat", String(ALICE), "--billing-exempt"];
  const id = expectCode(await openclaw("tenant", "create", "alice", ...owner), 0).stdout.trim();
  expectCode(await openclaw("tenant", "provision", "alice", "--wait"), 0);

  let updateId = 0;
  const write = async (from: number, text: string) => {
    updateId += 1;
    const person = { id: from, is_bot: false, first_name: "Somebody" };
    const chat = { id: from, type: "private" };
    const message = { message_id: updateId, date: 1_800_000_000, chat, from: person, text };
    const { status } = await call(`${daemon.publicUrl}/webhooks/telegram`, {
      method: "POST",
      headers: { "x-telegram-bot-api-secret-token": SECRET, "content-type": "application/json" },
      body: JSON.stringify({ update_id: updateId, message }),
    });
    assert.equal(status, 200);
  };
  const outcomes = async (from: number) => {
    const { rows } = await sql<{ outcome: string | null; reason: string | null }>`
      SELECT outcome FROM telegram_updates WHERE lane = ${from} ORDER BY seq`.execute(database.db);
    return rows.map(({ outcome }) => outcome);
  };

  await write(ALICE, "hello");
  await until(async () => ((await outcomes(ALICE))[0] === "delivered" ? true : undefined), "the first is delivered");
  // To somebody else, and back again; whoever is linked writes at once.
  for (const [round, person] of [BERTA, ALICE, BERTA].entries()) {
    const { url } = documentOf(expectCode(await openclaw("tenant", "link", "alice", "--json"), 0));
    const before = (await outcomes(person)).length;
    const heard = telegram.messages(person).length;
    await write(person, `/start ${new URL(String(url)).searchParams.get("start")}`);
    await Promise.all(Array.from({ length: MESSAGES }, (_, count) => write(person, `message ${count}`)));
    const expected = ["answered", ...Array.from({ length: MESSAGES }, () => "delivered")];
    await until(async () => {
      const now = (await outcomes(person)).slice(before);
      return now.every((outcome) => outcome !== null) ? now : undefined;
    }, `all of round ${round} are finished`);
    assert.deepEqual((await outcomes(person)).slice(before), expected);
    // One for the link, and one for each message; once somebody else is linked, the runtime may not write to them.
    const isAnswered = () => telegram.messages(person).length === heard + 1 + MESSAGES;
    await until(async () => (isAnswered() ? true : undefined), `everything of round ${round} is answered`);
  }
  // The runtime's own word.
  const log = await readFile(path.join(env.OPENCLAW_DATA_DIR, "runtimes", id, "logs", "runtime.log"), "utf8");
  const lines = log.split("\n").flatMap((line) => (line.startsWith("{") ? [JSON.parse(line) as { msg: string }] : []));
  assert.equal(lines.filter(({ msg }) => msg === "dropped").length, 0);
  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
});
