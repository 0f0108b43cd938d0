import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { sql } from "kysely";
import { createEmptyTestDatabase, createTestDatabase } from "../src/core/testing/database.ts";
import { startStripeServer } from "../src/core/testing/fakes/stripe-server.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { documentOf, expectCode, openFolder, type Outcome, temporaryFolder } from "./command.ts";

const BOT_TOKEN = "4242:loopback-bot-token";
const STRIPE_KEY = "sk_test_loopback";
const NOWHERE = "http://127.0.0.1:1";

type Line = { name: string; status: string; message: string; remedy: string | null };

function linesOf(outcome: Outcome): Map<string, Line> {
  const checks = documentOf(outcome)["checks"] as Line[];
  return new Map(checks.map((line) => [line.name, line]));
}

/** Everything that a service needs, on loopback. */
async function setUp(t: TestContext, databaseUrl: string) {
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  const stripe = await startStripeServer({ secretKey: STRIPE_KEY });
  t.after(() => Promise.all([telegram.close(), stripe.close()]));
  stripe.addPrice("price_basic", 2_000);
  stripe.addPrice("price_plus", 5_000);
  const env = {
    DATABASE_URL: databaseUrl,
    OPENCLAW_DATA_DIR: await temporaryFolder(t),
    OPENCLAW_PUBLIC_URL: "https://bot.example.com",
    STRIPE_SECRET_KEY: STRIPE_KEY,
    STRIPE_WEBHOOK_SECRET: "whsec_loopback",
    STRIPE_PRICE_BASIC: "price_basic",
    STRIPE_PRICE_PLUS: "price_plus",
    STRIPE_API_BASE: stripe.url,
    TELEGRAM_API_ROOT: telegram.url,
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
    TELEGRAM_WEBHOOK_SECRET: "loopback-secret",
    ANTHROPIC_API_KEY: "sk-ant-loopback",
  };
  return { env, telegram };
}

test("check finds nothing to mend where all is there, and leaves nothing behind", async (t) => {
  await using database = await createTestDatabase();
  const { env, telegram } = await setUp(t, database.url);
  const openclaw = await openFolder(t, env);
  expectCode(await openclaw("telegram", "webhook", "set"), 0);
  const lines = linesOf(expectCode(await openclaw("check", "--json"), 0));
  const troubled = [...lines.values()].filter(({ status }) => status !== "ok").map(({ name }) => name);
  // No daemon runs here, and no real OpenClaw; under an ordinary user, tenants share one.
  assert.deepEqual(new Set([...troubled, "isolation"]), new Set(["runtime program", "daemons", "isolation"]));
  assert.match(lines.get("stripe key")?.message ?? "", /test mode/);
  assert.match(lines.get("telegram webhook")?.message ?? "", /bot\.example\.com\/webhooks\/telegram, 0 pending/);
  assert.deepEqual(await readdir(path.join(env.OPENCLAW_DATA_DIR, "vault", "secrets")), []);
  const text = expectCode(await openclaw("check"), 0);
  assert.match(text.stdout, /^warning {2}daemons +none is alive\n +→ Run: openclaw daemon$/m);

  telegram.setWebhookInfo({
    last_error_date: Math.floor(Date.now() / 1_000),
    last_error_message: "Connection refused",
  });
  const complained = linesOf(expectCode(await openclaw("check", "--json"), 0)).get("telegram webhook");
  assert.equal(complained?.status, "warning");
  assert.match(complained?.message ?? "", /Connection refused/);
});

test("check says of everything that is missing, wrong or away what to do, and exits with 8 (F33, F59, F92)", async (t) => {
  await using database = await createEmptyTestDatabase();
  const { env } = await setUp(t, database.url);
  const openclaw = await openFolder(t, {
    ...env,
    REDIS_URL: "redis://127.0.0.1:1",
    STRIPE_WEBHOOK_SECRET: "",
    STRIPE_PRICE_PLUS: "price_of_another_account",
    TELEGRAM_BOT_TOKEN: "4242:revoked-bot-token",
    ANTHROPIC_API_KEY: "",
    OPENCLAW_RUNTIME_BIN: "/nonexistent/openclaw",
    OPENCLAW_VAULT_KEY: "short",
  });
  const lines = linesOf(expectCode(await openclaw("check", "--json"), 8));
  const said = (name: string) =>
    `${lines.get(name)?.status}: ${lines.get(name)?.message} ${lines.get(name)?.remedy ?? ""}`;
  assert.match(said("migrations"), /^failed: .* not applied Run: openclaw migrate/);
  assert.match(said("fleet"), /^failed: .*run: openclaw migrate/);
  assert.match(said("redis"), /^failed: Redis can't be used: .* REDIS_URL/);
  assert.match(said("stripe webhook"), /^failed: .*STRIPE_WEBHOOK_SECRET/);
  assert.match(said("stripe prices"), /^failed: STRIPE_PRICE_PLUS: this key's account has no price/);
  assert.match(said("telegram bot"), /^failed: Telegram refuses the token Get the one in force/);
  assert.match(said("models"), /^failed: .*ANTHROPIC_API_KEY/);
  assert.match(said("runtime program"), /^failed: OPENCLAW_RUNTIME_BIN: .* doesn't exist/);
  assert.match(said("vault"), /^failed: OPENCLAW_VAULT_KEY is not 32 bytes/);
  assert.match(said("clock"), /^ok: /);
  assert.match(said("database"), /^ok: PostgreSQL/);
});

test("check works while nothing answers, and with a configuration that can't be read", async (t) => {
  const away = {
    DATABASE_URL: "postgres://nobody@127.0.0.1:1/none",
    STRIPE_SECRET_KEY: STRIPE_KEY,
    STRIPE_API_BASE: NOWHERE,
    TELEGRAM_API_ROOT: NOWHERE,
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
    TELEGRAM_WEBHOOK_SECRET: "loopback-secret",
  };
  const openclaw = await openFolder(t, away);
  const lines = linesOf(expectCode(await openclaw("check", "--json"), 8));
  for (const name of ["database", "migrations", "clock", "daemons", "fleet", "stripe key", "telegram bot"])
    assert.equal(lines.get(name)?.status, "failed", name);
  assert.match(lines.get("stripe key")?.message ?? "", /can't be reached/);
  const broken = await openFolder(t, { ...away, OPENCLAW_IDLE_MINUTES: "soon", REDIS_URL: "ftp://x" });
  const { checks } = documentOf(expectCode(await broken("check", "--json"), 8));
  assert.ok(Array.isArray(checks) && checks.length === 2);
  assert.match(String(checks[0].message), /REDIS_URL|OPENCLAW_IDLE_MINUTES/);
});

test("check tells of a fleet that nobody looks after, and of daemons of two builds (F33, F85)", async (t) => {
  await using database = await createTestDatabase();
  const { env } = await setUp(t, database.url);
  const openclaw = await openFolder(t, env);
  const fleet = async () => {
    const lines = linesOf(await openclaw("check", "--json"));
    return [lines.get("daemons"), lines.get("fleet")].map((line) => `${line?.status}: ${line?.message}`);
  };
  await sql`
    INSERT INTO daemons (id, roles, version, build, host, pid)
    SELECT gen_random_uuid(), '{worker}', '0.1.0', build, 'here', 1 FROM (VALUES ('aaa'), ('bbb')) AS builds (build)`.execute(
    database.db,
  );
  await sql`UPDATE fleet_sweeps SET succeeded_at = now() - interval '10 minutes', problem = 'throttled'`.execute(
    database.db,
  );
  const [daemons, sweeps] = await fleet();
  assert.match(daemons ?? "", /^warning: 2 alive, version 0\.1\.0 \(aaa\), 0\.1\.0 \(bbb\)/);
  assert.match(sweeps ?? "", /^warning: last sweep 60\d s ago, 0 runtimes; since then: throttled/);
  expectCode(await openclaw("tenant", "create", "alice", "--email", "alice@example.com", "--trial-days", "7"), 0);
  await sql`UPDATE tenants SET status_changed_at = now() - interval '11 minutes'`.execute(database.db);
  assert.match((await fleet())[1] ?? "", /^warning: alice has been provisioned for too long/);
});
