import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { sql } from "kysely";
import { until } from "../src/core/adapters/runtime/contract.ts";
import { createTestDatabase, type TestDatabase } from "../src/core/testing/database.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { documentOf, expectCode, openFolder, temporaryFolder } from "./command.ts";
import { call, startDaemon } from "./daemon-process.ts";

const BOT_TOKEN = "4242:loopback-bot-token";
const SECRET = "webhook-secret";
const CHAT = 111_222_333;

/** A daemon with one tenant, whose runtime is up. */
async function setUp(t: TestContext, database: TestDatabase) {
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
  return {
    telegram,
    openclaw,
    stateOf: async () =>
      documentOf(await openclaw("tenant", "show", "alice", "--json"))["runtime"] as { state: string },
    /** All that was done so far is long ago. */
    async forgetActivity() {
      await sql`UPDATE runtime_calls SET at = at - interval '1 day'`.execute(database.db);
      await sql`UPDATE telegram_updates SET finished_at = finished_at - interval '1 day'`.execute(database.db);
    },
    /** The time in which a delivery may be under way is over. */
    async endQuietTime() {
      await sql`UPDATE tenants SET hibernated_at = hibernated_at - interval '1 minute'`.execute(database.db);
      await sql`SELECT graphile_worker.reschedule_jobs(array_agg(id), run_at => now()) FROM graphile_worker.jobs
        WHERE task_identifier = 'tenant.converge'`.execute(database.db);
    },
    async write(updateId: number): Promise<void> {
      const from = { id: CHAT, is_bot: false, first_name: "Alice" };
      const chat = { id: CHAT, type: "private" };
      const message = { message_id: updateId, date: 1_800_000_000, chat, from, text: "good morning" };
      const accepted = await call(`${daemon.publicUrl}/webhooks/telegram`, {
        method: "POST",
        headers: { "x-telegram-bot-api-secret-token": SECRET, "content-type": "application/json" },
        body: JSON.stringify({ update_id: updateId, message }),
      });
      assert.equal(accepted.status, 200);
    },
  };
}

test("a runtime that sleeps is woken by a message, which it answers", async (t) => {
  await using database = await createTestDatabase();
  const { telegram, openclaw, stateOf, endQuietTime, write } = await setUp(t, database);
  expectCode(await openclaw("tenant", "sleep", "alice"), 0);
  await endQuietTime();
  while ((await stateOf()).state !== "asleep");
  await write(1);
  // There is no model here: what it says is that.
  await telegram.waitFor(({ method }) => method === "sendMessage", 30_000);
  while ((await stateOf()).state !== "running");
  expectCode(await openclaw("tenant", "wake", "alice"), 0);
  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
  expectCode(await openclaw("tenant", "wake", "alice"), 5);
  expectCode(await openclaw("tenant", "sleep", "alice"), 5);
});

test("a message that comes while a runtime is being stopped, right before or after, is answered: none is stranded", async (t) => {
  await using database = await createTestDatabase();
  const { telegram, openclaw, forgetActivity, endQuietTime, write } = await setUp(t, database);
  for (const [round, when] of (["before", "at once", "stopping", "stopped"] as const).entries()) {
    if (when === "before") await write(round + 1);
    expectCode(await openclaw("tenant", "sleep", "alice"), 0);
    if (when === "at once") await write(round + 1);
    if (when === "stopping" || when === "stopped") await forgetActivity();
    await endQuietTime();
    if (when === "stopped") {
      await until(async () => {
        // Calls are written down some seconds after they were made.
        await forgetActivity();
        await endQuietTime();
        const { rows } = await sql`SELECT FROM runtimes WHERE state = 'asleep'`.execute(database.db);
        return rows.length > 0 ? true : undefined;
      }, "it is stopped");
    }
    if (when === "stopping" || when === "stopped") await write(round + 1);
    await until(
      async () => (telegram.messages(CHAT).length === round + 1 ? true : undefined),
      `what came ${when} is answered`,
    );
  }
  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
});
