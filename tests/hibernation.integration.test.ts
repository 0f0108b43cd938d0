import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "kysely";
import { createTestDatabase } from "../src/core/testing/database.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { documentOf, expectCode, openFolder, temporaryFolder } from "./command.ts";
import { call, startDaemon } from "./daemon-process.ts";

const BOT_TOKEN = "4242:loopback-bot-token";
const SECRET = "webhook-secret";
const CHAT = 111_222_333;

test("a runtime that sleeps is woken by a message, which it answers", async (t) => {
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
  const owner = ["--email", "alice@example.com", "--chat", String(CHAT), "--billing-exempt"];
  expectCode(await openclaw("tenant", "create", "alice", ...owner), 0);
  expectCode(await openclaw("tenant", "provision", "alice", "--wait"), 0);
  const stateOf = async () =>
    documentOf(await openclaw("tenant", "show", "alice", "--json"))["runtime"] as { state: string };

  expectCode(await openclaw("tenant", "sleep", "alice"), 0);
  // The time in which a delivery may be under way is over.
  await sql`UPDATE tenants SET hibernated_at = hibernated_at - interval '1 minute'`.execute(database.db);
  await sql`SELECT graphile_worker.reschedule_jobs(array_agg(id), run_at => now()) FROM graphile_worker.jobs`.execute(
    database.db,
  );
  while ((await stateOf()).state !== "asleep");

  const from = { id: CHAT, is_bot: false, first_name: "Alice" };
  const message = {
    message_id: 1,
    date: 1_800_000_000,
    chat: { id: CHAT, type: "private" },
    from,
    text: "good morning",
  };
  const accepted = await call(`${daemon.publicUrl}/webhooks/telegram`, {
    method: "POST",
    headers: { "x-telegram-bot-api-secret-token": SECRET, "content-type": "application/json" },
    body: JSON.stringify({ update_id: 1, message }),
  });
  assert.equal(accepted.status, 200);
  // There is no model here: what it says is that.
  await telegram.waitFor(({ method }) => method === "sendMessage", 30_000);
  while ((await stateOf()).state !== "running");
  expectCode(await openclaw("tenant", "wake", "alice"), 0);
  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
  expectCode(await openclaw("tenant", "wake", "alice"), 5);
  expectCode(await openclaw("tenant", "sleep", "alice"), 5);
});
