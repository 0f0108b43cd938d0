import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createFileVault } from "../src/core/adapters/vault/file-vault.ts";
import { tenantSecretName } from "../src/core/adapters/vault/vault.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import { createTenant } from "../src/core/tenants/tenants.ts";
import { createTestDatabase, type TestDatabase } from "../src/core/testing/database.ts";
import { startLoopback } from "../src/core/testing/fakes/loopback.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { call, type Daemon, startDaemon } from "./daemon-process.ts";

const SECRET = "webhook-secret";
const TOKEN = "4242:real-bot-token";
const WAIT_MS = 30_000;

async function start(t: TestContext, database: TestDatabase, env: Record<string, string> = {}) {
  const dataDir = await mkdtemp(path.join(tmpdir(), "openclaw-metrics-"));
  t.after(() => rm(dataDir, { recursive: true, force: true }));
  const telegram = await startTelegramServer({ token: TOKEN });
  t.after(() => telegram.close());
  const daemon = await startDaemon(t, {
    DATABASE_URL: database.url,
    OPENCLAW_DATA_DIR: dataDir,
    TELEGRAM_BOT_TOKEN: TOKEN,
    TELEGRAM_WEBHOOK_SECRET: SECRET,
    TELEGRAM_API_ROOT: telegram.url,
    TELEGRAM_SENDS_PER_SECOND: "25",
    ...env,
  });
  await daemon.saw("working");
  return { daemon, dataDir };
}

/** An active tenant linked to `chat`, whose runtime accepts everything. */
async function addTenant(t: TestContext, database: TestDatabase, dataDir: string, chat: number) {
  const runtime = await startLoopback(async (_request, response) => {
    response.writeHead(200, { "x-openclaw-delivery-accepted": "durable" }).end();
  });
  t.after(() => runtime.close());
  const { tenant } = await createTenant(
    { db: database.db, clock: systemClock, actor: { name: "test" } },
    { slug: `chat-${chat}`, email: `${chat}@example.com`, telegramChatId: chat, billingExempt: true },
  );
  const vault = createFileVault({ folder: path.join(dataDir, "vault"), key: undefined });
  await vault.set(tenantSecretName(tenant.id, "webhook-secret", 1), "runtime-secret");
  await database.pool.query(
    `INSERT INTO runtimes (tenant_id, driver, state, address, image, spec_hash, allowed_user_id, observed_at)
     VALUES ($1, 'memory', 'running', $2, 'test', 'test', $3, now())`,
    [tenant.id, runtime.url, chat],
  );
  await database.pool.query("UPDATE tenants SET status = 'active' WHERE id = $1", [tenant.id]);
}

async function send(daemon: Daemon, body: string, secret = SECRET): Promise<number> {
  const headers = { "content-type": "application/json", "x-telegram-bot-api-secret-token": secret };
  const { status } = await call(`${daemon.publicUrl}/webhooks/telegram`, { method: "POST", headers, body });
  return status;
}

function message(updateId: number, chat: number): string {
  const from = { id: chat, is_bot: false, first_name: "Ann" };
  const content = { message_id: updateId, date: 1_763_632_800, chat: { id: chat, type: "private" }, from, text: "hi" };
  return JSON.stringify({ update_id: updateId, message: content });
}

/** The samples of one scrape, by name and labels as they are printed. */
async function scrape(daemon: Daemon): Promise<Record<string, number>> {
  const { text } = await call(`${daemon.internalUrl}/metrics`);
  const samples = text.split("\n").filter((line) => line.startsWith("openclaw_"));
  return Object.fromEntries(
    samples.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]),
  );
}

/** Scrapes until `wanted` samples are what they should be, or satisfy what is asked; says which are not otherwise. */
async function untilScraped(daemon: Daemon, wanted: Record<string, number | ((value: number) => boolean)>) {
  for (const deadline = performance.now() + WAIT_MS; ; await delay(100)) {
    const samples = await scrape(daemon);
    const wrong = Object.entries(wanted).filter(([name, value]) => {
      const found = samples[name] ?? -1;
      return typeof value === "number" ? !Object.is(found, value) : !value(found);
    });
    if (wrong.length === 0) return samples;
    const found = wrong.map(([name]) => `${name} ${samples[name]}`).join("\n");
    if (performance.now() > deadline) assert.fail(`still otherwise:\n${found}`);
  }
}

test("what is accepted, refused, delivered and answered is counted, and how long it took, without naming anybody", async (t) => {
  await using database = await createTestDatabase();
  const { daemon, dataDir } = await start(t, database);
  await addTenant(t, database, dataDir, 700_001);
  for (const id of [1, 2, 2]) assert.equal(await send(daemon, message(id, 700_001)), 200);
  assert.equal(await send(daemon, message(3, 700_002)), 200);
  assert.equal(await send(daemon, message(4, 700_001), "wrong"), 403);
  assert.equal(await send(daemon, "nonsense"), 400);
  const samples = await untilScraped(daemon, {
    'openclaw_webhook_events_total{source="telegram",result="accepted"}': 3,
    'openclaw_webhook_events_total{source="telegram",result="duplicate"}': 1,
    'openclaw_webhook_events_total{source="telegram",result="forbidden"}': 1,
    'openclaw_webhook_events_total{source="telegram",result="update_invalid"}': 1,
    'openclaw_updates_finished_total{outcome="delivered"}': 2,
    'openclaw_updates_finished_total{outcome="answered"}': 1,
    'openclaw_updates_finished_total{outcome="dead"}': 0,
    openclaw_delivery_seconds_count: 2,
    openclaw_delivery_after_answer_seconds_count: 2,
    openclaw_router_shards: 64,
    openclaw_router_shards_lost_total: 0,
    openclaw_telegram_sends_per_second_limit: 25,
    openclaw_telegram_calls_admitted_total: 1,
    openclaw_telegram_calls_refused_total: 0,
    openclaw_telegram_actions_shed_total: 0,
    openclaw_telegram_slow_downs_total: 0,
    openclaw_telegram_calls_waiting: 0,
    openclaw_telegram_pace_shared: 0,
  });
  assert.ok(
    (samples["openclaw_delivery_seconds_sum"] ?? 0) >= (samples["openclaw_delivery_after_answer_seconds_sum"] ?? 0),
  );
  const { text } = await call(`${daemon.internalUrl}/metrics`);
  assert.doesNotMatch(text, /70000[12]|chat-/);
});

test("what waits is shown with its depth and age, and why; a lost shard is counted (F9, F12)", async (t) => {
  await using database = await createTestDatabase();
  // Nobody can be answered, so that everybody waits.
  const { daemon } = await start(t, database, { TELEGRAM_API_ROOT: "http://127.0.0.1:9" });
  for (const [id, chat] of [
    [1, 7],
    [2, 8],
    [3, 7],
    [4, 7],
  ] as const)
    await send(daemon, message(id, chat));
  await untilScraped(daemon, {
    openclaw_inbox_open_updates: 4,
    openclaw_inbox_open_lanes: 2,
    openclaw_inbox_deepest_lane_updates: 3,
    openclaw_dead_letters: 0,
    openclaw_router_updates: 4,
    openclaw_inbox_oldest_age_seconds: (age) => age > 0,
    'openclaw_updates_deferred_total{reason="telegram-unreachable"}': (count) => count >= 2,
  });
  await database.pool.query(
    "UPDATE router_shards SET owner = gen_random_uuid(), epoch = epoch + 1, expires_at = now() + interval '1 h'",
  );
  await untilScraped(daemon, { openclaw_router_shards: 0, openclaw_router_shards_lost_total: 64 });
});

test("while the database is away a scrape still answers, and what waits is not a number", async (t) => {
  await using database = await createTestDatabase();
  const { daemon } = await start(t, database);
  assert.equal((await scrape(daemon))["openclaw_inbox_open_updates"], 0);
  await database.pool.query("ALTER TABLE telegram_dead_letters RENAME TO gone");
  await untilScraped(daemon, { openclaw_inbox_open_updates: Number.NaN, openclaw_router_shards: 64 });
});
