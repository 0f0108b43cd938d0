import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import Stripe from "stripe";
import { createPool } from "../src/core/platform/db.ts";
import { migrate } from "../src/core/platform/migrations.ts";
import { packageRoot } from "../src/core/platform/package-root.ts";
import { createEmptyTestDatabase, createTestDatabase, type TestDatabase } from "../src/core/testing/database.ts";
import { call, type Daemon, startDaemon } from "./daemon-process.ts";

const SECRET = "webhook-secret";
const TELEGRAM = {
  TELEGRAM_BOT_TOKEN: "4242:real-bot-token",
  TELEGRAM_WEBHOOK_SECRET: SECRET,
  TELEGRAM_API_ROOT: "http://127.0.0.1:9",
};
const WAIT_MS = 30_000;

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  for (const deadline = performance.now() + WAIT_MS; !(await condition()); await delay(50)) {
    if (performance.now() > deadline) throw new Error(`it does not come about that ${what}`);
  }
}

function sendUpdate(daemon: Daemon, body: string | Buffer, secret: string | undefined = SECRET) {
  return call(`${daemon.publicUrl}/webhooks/telegram`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(secret === undefined ? {} : { "x-telegram-bot-api-secret-token": secret }),
    },
    body,
  });
}

async function count(database: TestDatabase, select: string): Promise<number> {
  const { rows } = await database.pool.query(`SELECT count(*)::integer AS found FROM (${select}) AS rows`);
  return rows[0].found;
}

test("a daemon serves health at once, and readiness once the database is migrated (F79, F81, F85)", async (t) => {
  await using database = await createEmptyTestDatabase();
  const daemon = await startDaemon(t, { DATABASE_URL: database.url });
  for (const url of [daemon.publicUrl, daemon.internalUrl]) {
    const health = await call(`${url}/healthz`);
    assert.equal(health.status, 200);
    assert.deepEqual(Object.keys(health.json), ["status", "version", "build"]);
    const notReady = await call(`${url}/readyz`);
    assert.equal(notReady.status, 503);
    assert.equal(notReady.json.error.code, "not_ready");
    assert.match(notReady.json.error.message, /openclaw migrate/);
  }
  await migrate(database.pool, path.join(packageRoot(), "migrations"));
  await daemon.saw("working");
  assert.equal((await call(`${daemon.publicUrl}/readyz`)).status, 200);
});

test("a daemon survives the loss of its database, and works again when it is back (F81, F83)", async (t) => {
  await using database = await createTestDatabase();
  const daemon = await startDaemon(t, { DATABASE_URL: database.url, ...TELEGRAM });
  await daemon.saw("working");
  const name = new URL(database.url).pathname.slice(1);
  const admin = await createEmptyTestDatabase();
  try {
    await database.pool.end();
    await admin.pool.query(`ALTER DATABASE ${name} WITH ALLOW_CONNECTIONS false`);
    const cut = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}'`;
    await until(async () => {
      await admin.pool.query(cut);
      return (await call(`${daemon.publicUrl}/readyz`)).status === 503;
    }, "it is not ready");
    const refused = await sendUpdate(daemon, '{"update_id":1}');
    assert.equal(refused.status, 503);
    assert.equal(refused.json.error.code, "not_accepted");
    await admin.pool.query(`ALTER DATABASE ${name} WITH ALLOW_CONNECTIONS true`);
    await until(async () => (await call(`${daemon.publicUrl}/readyz`)).status === 200, "it is ready again");
    await until(async () => (await sendUpdate(daemon, '{"update_id":1}')).status === 200, "the repetition is kept");
    const pool = createPool({ url: database.url, max: 2, applicationName: "test", onIdleError: () => undefined });
    await pool.query("SELECT graphile_worker.add_job('sweep.entitlement')");
    const open = "SELECT FROM telegram_updates WHERE finished_at IS NULL";
    await until(async () => (await pool.query(open)).rowCount === 0, "the update is worked on");
    await until(async () => (await pool.query("SELECT FROM graphile_worker.jobs")).rowCount === 0, "the job is done");
    await pool.end();
    daemon.child.kill("SIGTERM");
    assert.equal(await daemon.exit, 0);
  } finally {
    await admin[Symbol.asyncDispose]();
  }
});

test("the Telegram webhook believes only its secret, takes only updates, and answers with an empty 200 (F92, F96)", async (t) => {
  await using database = await createTestDatabase();
  const daemon = await startDaemon(t, { DATABASE_URL: database.url, ...TELEGRAM }, ["--roles", "web"]);
  await until(async () => (await call(`${daemon.publicUrl}/readyz`)).status === 200, "it is ready");
  for (const secret of ["", "wrong", `${SECRET}x`, undefined]) {
    const url = `${daemon.publicUrl}/webhooks/telegram`;
    const headers = secret === undefined ? {} : { "x-telegram-bot-api-secret-token": secret };
    assert.equal((await call(url, { method: "POST", headers, body: '{"update_id":1}' })).status, 403);
  }
  for (const body of ["", "nonsense", "[1]", '{"update_id":"1"}', '{"update_id":1.5}']) {
    assert.equal((await sendUpdate(daemon, body)).status, 400, body);
  }
  const fitting = JSON.stringify({ update_id: 7, message: { text: "x".repeat(1024 * 1024 - 100) } });
  assert.equal((await sendUpdate(daemon, fitting)).status, 200);
  assert.equal((await sendUpdate(daemon, Buffer.alloc(1024 * 1024 + 1, " "))).status, 413);
  for (let time = 1; time <= 2; time += 1) {
    const accepted = await sendUpdate(daemon, '{"update_id":1,"message":{"chat":{"id":7,"type":"private"}}}');
    assert.deepEqual([accepted.status, accepted.text], [200, ""]);
  }
  assert.equal(await count(database, "SELECT FROM telegram_updates"), 2);
});

test("webhooks without a configured secret are closed (F92)", async (t) => {
  await using database = await createTestDatabase();
  const daemon = await startDaemon(t, { DATABASE_URL: database.url }, ["--roles", "web"]);
  for (const name of ["telegram", "stripe"]) {
    const { status, json } = await call(`${daemon.publicUrl}/webhooks/${name}`, { method: "POST", body: "{}" });
    assert.deepEqual([status, json.error.code], [503, "not_configured"]);
  }
});

test("the Stripe webhook believes only its signature, and keeps an event once", async (t) => {
  await using database = await createTestDatabase();
  const env = { DATABASE_URL: database.url, STRIPE_WEBHOOK_SECRET: "whsec_old,whsec_new" };
  const daemon = await startDaemon(t, env, ["--roles", "web"]);
  await until(async () => (await call(`${daemon.publicUrl}/readyz`)).status === 200, "it is ready");
  const event = {
    id: "evt_1",
    object: "event",
    type: "customer.created",
    created: 1_763_632_800,
    data: { object: {} },
  };
  const payload = JSON.stringify(event);
  const send = (secret: string) =>
    call(`${daemon.publicUrl}/webhooks/stripe`, {
      method: "POST",
      headers: { "stripe-signature": Stripe.webhooks.generateTestHeaderString({ payload, secret }) },
      body: payload,
    });
  assert.equal((await send("whsec_other")).status, 400);
  assert.equal(await count(database, "SELECT FROM stripe_events"), 0);
  for (const secret of ["whsec_new", "whsec_old", "whsec_new"]) assert.equal((await send(secret)).status, 200);
  assert.equal(await count(database, "SELECT FROM stripe_events"), 1);
});

test("a signed Stripe event is kept and answered whatever text and numbers it holds, and projected if it can be", async (t) => {
  await using database = await createTestDatabase();
  const secret = "whsec_odd";
  const daemon = await startDaemon(t, { DATABASE_URL: database.url, STRIPE_WEBHOOK_SECRET: secret });
  await daemon.saw("working");
  const send = (payload: string) =>
    call(`${daemon.publicUrl}/webhooks/stripe`, {
      method: "POST",
      headers: { "stripe-signature": Stripe.webhooks.generateTestHeaderString({ payload, secret }) },
      body: payload,
    });
  const event = (id: string, type: string, object: string, created = "1763632800") =>
    `{"id":"${id}","object":"event","type":"${type}","created":${created},"data":{"object":${object}}}`;
  const odd: Record<string, string> = {
    evt_nul: event("evt_nul", "customer.updated", String.raw`{"id":"cus_1","name":"a\u0000b"}`),
    evt_surrogate: event("evt_surrogate", "customer.updated", String.raw`{"id":"cus_1","name":"\ud800"}`),
    evt_huge: event("evt_huge", "customer.updated", `{"id":"cus_1","balance":1e200000}`),
    evt_deep: event("evt_deep", "customer.updated", `{"id":"cus_1","deep":${"[".repeat(50_000)}${"]".repeat(50_000)}}`),
    evt_lane: event("evt_lane", "customer.updated", String.raw`{"id":"cus\u0000","customer":7}`),
    evt_late: event("evt_late", "invoice.paid", String.raw`{"subscription":"sub\u0000","customer":"cus_1"}`),
  };
  for (const [id, body] of Object.entries(odd)) assert.equal((await send(body)).status, 200, id);
  for (const [id, body] of Object.entries(odd)) assert.equal((await send(body)).status, 200, `${id} again`);
  const { rows } = await database.pool.query<{ id: string; payload: string }>("SELECT id, payload FROM stripe_events");
  assert.deepEqual(Object.fromEntries(rows.map(({ id, payload }) => [id, payload])), odd);
  const settled = "SELECT FROM stripe_events WHERE status = 'ignored' OR (id = 'evt_late' AND last_error IS NOT NULL)";
  await until(async () => (await count(database, settled)) === rows.length, "each is projected or says why not");
  const { rows: late } = await database.pool.query("SELECT last_error FROM stripe_events WHERE id = 'evt_late'");
  assert.match(late[0].last_error, /not the expected shape/);
  for (const created of ["1e300", "1763632800.5", "-1", '"now"', "null"]) {
    const refused = await send(event("evt_time", "customer.updated", "{}", created));
    assert.deepEqual([refused.status, refused.json.error.code], [400, "event_invalid"], created);
    assert.match(refused.json.error.message, /created/);
  }
  const timeless = await send(`{"id":"evt_time","type":"customer.updated","data":{"object":{}}}`);
  assert.equal(timeless.status, 400);
});

test("every answer names its request, errors have one shape, and no path is repeated (F90)", async (t) => {
  await using database = await createTestDatabase();
  const daemon = await startDaemon(t, { DATABASE_URL: database.url, ...TELEGRAM });
  const token = "12345:secret-in-the-path";
  for (const [url, status] of [
    [`${daemon.publicUrl}/healthz`, 200],
    [`${daemon.publicUrl}/nowhere/${token}`, 404],
    [`${daemon.publicUrl}/%zz/${token}`, 400],
    [`${daemon.internalUrl}/%zz/${token}`, 400],
    [`${daemon.internalUrl}/nowhere/${token}`, 404],
    [`${daemon.publicUrl}/webhooks/telegram`, 404],
  ] as const) {
    const answer = await call(url);
    assert.equal(answer.status, status, url);
    assert.match(String(answer.headers["x-request-id"]), /^[0-9a-f-]{36}$/);
    assert.ok(!answer.text.includes(token), url);
    if (status !== 200) assert.equal(answer.json.error.requestId, answer.headers["x-request-id"]);
  }
  // What stands for the Bot API has its shape.
  const malformed = await call(`${daemon.internalUrl}/runtime/x/telegram/bot${token}/%zz`);
  assert.deepEqual([malformed.status, malformed.json.ok], [400, false]);
  assert.ok(malformed.headers["x-request-id"] !== undefined && !malformed.text.includes(token));
  const refused = await call(`${daemon.internalUrl}/runtime/x/telegram/bot${token}/getMe`);
  assert.deepEqual(refused.json, { ok: false, error_code: 401, description: "Unauthorized" });
  assert.ok(!daemon.output.join("\n").includes("secret-in-the-path"));
});

test("metrics are open on loopback until a token is set", async (t) => {
  await using database = await createTestDatabase();
  const roles = ["--roles", "gateway"];
  const open = await startDaemon(t, { DATABASE_URL: database.url }, roles);
  assert.match((await call(`${open.internalUrl}/metrics`)).text, /openclaw_router_updates/);
  const token = "metrics-token";
  const closed = await startDaemon(t, { DATABASE_URL: database.url, OPENCLAW_METRICS_TOKEN: token }, roles);
  assert.equal((await call(`${closed.internalUrl}/metrics`)).status, 401);
  const wrong = { headers: { authorization: "Bearer wrong" } };
  assert.equal((await call(`${closed.internalUrl}/metrics`, wrong)).status, 401);
  const right = { headers: { authorization: `Bearer ${token}` } };
  assert.equal((await call(`${closed.internalUrl}/metrics`, right)).status, 200);
});

test("metrics off loopback are closed without a token", async (t) => {
  await using database = await createTestDatabase();
  const env = { DATABASE_URL: database.url, OPENCLAW_INTERNAL_LISTEN: "0.0.0.0:0" };
  const daemon = await startDaemon(t, env, ["--roles", "gateway"]);
  assert.equal((await call(`${daemon.internalUrl}/metrics`)).status, 401);
});

test("a daemon told to stop gives its shards and its place back, and ends with 0", async (t) => {
  await using database = await createTestDatabase();
  const daemon = await startDaemon(t, { DATABASE_URL: database.url, ...TELEGRAM });
  await daemon.saw("working");
  assert.equal(await count(database, "SELECT FROM router_shards WHERE owner IS NOT NULL"), 64);
  daemon.child.kill("SIGTERM");
  assert.equal(await daemon.exit, 0);
  assert.equal(await count(database, "SELECT FROM router_shards WHERE owner IS NOT NULL"), 0);
  assert.equal(await count(database, "SELECT FROM daemons"), 0);
});

test("two daemons share the work; when one is killed, the other takes its shards and its jobs (F12, F84)", async (t) => {
  await using database = await createTestDatabase();
  const daemons = [
    await startDaemon(t, { DATABASE_URL: database.url }),
    await startDaemon(t, { DATABASE_URL: database.url }),
  ];
  const owners = "SELECT owner FROM router_shards WHERE owner IS NOT NULL GROUP BY owner HAVING count(*) = 32";
  await until(async () => (await count(database, owners)) === 2, "each holds half");
  const [victim] = daemons;
  const { rows } = await database.pool.query("SELECT id, worker_ids FROM daemons WHERE pid = $1", [victim?.child.pid]);
  await database.pool.query("SELECT graphile_worker.add_job('sweep.entitlement', run_at => now() + interval '1 day')");
  victim?.child.kill("SIGKILL");
  // As if it had died over this job.
  await database.pool.query(
    "UPDATE graphile_worker._private_jobs SET locked_by = $1, locked_at = now(), run_at = now() WHERE run_at > now() + interval '1 h'",
    [rows[0].worker_ids[0]],
  );
  const all = "SELECT owner FROM router_shards WHERE expires_at > now() GROUP BY owner HAVING count(*) = 64";
  await until(async () => (await count(database, all)) === 1, "the other holds all");
  const locked = "SELECT FROM graphile_worker.jobs WHERE locked_by IS NOT NULL";
  await until(async () => (await count(database, locked)) === 0, "the job is done");
});

test("whatever is accepted survives kill -9, once and in order (F8)", async () => {
  const args = ["scripts/chaos.ts", "router", "--updates", "1000", "--chats", "20", "--rounds", "4", "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: packageRoot() });
  const { passed, sent, delivered, lost, chatsOutOfOrder, duplicatesUnexplained, outcomes } = JSON.parse(stdout);
  assert.deepEqual(
    { passed, sent, delivered, lost, chatsOutOfOrder, duplicatesUnexplained, outcomes },
    {
      passed: true,
      sent: 1_000,
      delivered: 1_000,
      lost: 0,
      chatsOutOfOrder: 0,
      duplicatesUnexplained: 0,
      outcomes: { delivered: 1_000 },
    },
  );
});
