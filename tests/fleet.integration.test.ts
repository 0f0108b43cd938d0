import assert from "node:assert/strict";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { sql } from "kysely";
import { until } from "../src/core/adapters/runtime/contract.ts";
import { createTestDatabase, type TestDatabase } from "../src/core/testing/database.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { documentOf, expectCode, openFolder, temporaryFolder } from "./command.ts";
import { call, startDaemon } from "./daemon-process.ts";

const BOT_TOKEN = "4242:loopback-bot-token";
const UNKNOWN = "11111111-2222-4333-8444-555555555555";
const PURGED = "22222222-2222-4333-8444-555555555555";

async function setUp(t: TestContext, database: TestDatabase) {
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  t.after(() => telegram.close());
  const env = {
    DATABASE_URL: database.url,
    OPENCLAW_DATA_DIR: await temporaryFolder(t),
    TELEGRAM_API_ROOT: telegram.url,
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
  };
  const runtimes = path.join(env.OPENCLAW_DATA_DIR, "runtimes");
  return { env, runtimes, openclaw: await openFolder(t, env) };
}

/** A runtime that sleeps, and that nobody has heard of, like that of another tenant. */
async function plantRuntime(runtimes: string, like: string, tenantId: string): Promise<void> {
  const record = await readFile(path.join(runtimes, like, "runtime.json"), "utf8");
  await mkdir(path.join(runtimes, tenantId, "state"), { recursive: true });
  await writeFile(path.join(runtimes, tenantId, "state", "notes"), "kept");
  const asleep = record.replaceAll(like, tenantId).replace('"desired": "awake"', '"desired": "asleep"');
  await writeFile(path.join(runtimes, tenantId, "runtime.json"), asleep);
}

test("drift made by hand behind its back is shown and mended, and what has no tenant only by reap (F43, F88)", async (t) => {
  await using database = await createTestDatabase();
  const { env, runtimes, openclaw } = await setUp(t, database);
  const daemon = await startDaemon(t, { ...env, TELEGRAM_WEBHOOK_SECRET: "secret" });
  await daemon.saw("working");
  const ids = new Map<string, string>();
  for (const slug of ["alice", "bobby"]) {
    const created = await openclaw("tenant", "create", slug, "--email", `${slug}@example.com`, "--billing-exempt");
    ids.set(slug, expectCode(created, 0).stdout.trim());
    expectCode(await openclaw("tenant", "provision", slug, "--wait"), 0);
  }
  const [alice = "", bobby = ""] = ids.values();
  const status = documentOf(expectCode(await openclaw("fleet", "status", "--json"), 0));
  assert.deepEqual(status["tenants"], [{ status: "active", state: "running", count: 2 }]);
  assert.match(JSON.stringify(status["daemons"]), /"version":"[^"]+","build":"[^"]+"/);
  expectCode(await openclaw("fleet", "drift"), 0);
  expectCode(await openclaw("fleet", "health", "--probe"), 0);

  // Nobody hurries to mend it before it is looked at.
  await sql`UPDATE fleet_sweeps SET lease_until = now() + interval '1 hour'`.execute(database.db);
  const { pid } = JSON.parse(await readFile(path.join(runtimes, bobby, "process.json"), "utf8"));
  process.kill(-pid, "SIGKILL");
  await plantRuntime(runtimes, bobby, UNKNOWN);
  await rm(path.join(runtimes, bobby), { recursive: true });
  const { drift, orphans } = documentOf(expectCode(await openclaw("fleet", "drift", "--json"), 8));
  assert.deepEqual(
    (drift as { tenant: string; drift: { kind: string }[] }[]).map((one) => [one.tenant, one.drift[0]?.kind]),
    [["bobby", "missing"]],
  );
  assert.deepEqual(orphans, [{ tenantId: UNKNOWN, state: "asleep", image: "" }]);
  expectCode(await openclaw("fleet", "drift", "alice"), 0);
  assert.match(expectCode(await openclaw("fleet", "health", "--probe"), 8).stdout, /bobby +active +unhealthy/);
  const planned = documentOf(expectCode(await openclaw("fleet", "reconcile", "--all", "--dry-run", "--json"), 0));
  assert.match(JSON.stringify(planned), /"tenant":"bobby".*"action":"ensure"/);
  expectCode(await openclaw("fleet", "drift", "bobby"), 8);
  const mended = documentOf(expectCode(await openclaw("fleet", "reconcile", "--all", "--wait", "--json"), 0));
  assert.deepEqual(
    (mended["items"] as { tenant: string; result: string }[]).map(({ tenant, result }) => [tenant, result]),
    [["bobby", "done"]],
  );
  expectCode(await openclaw("fleet", "drift", "alice", "bobby"), 0);
  const [named] = documentOf(await openclaw("fleet", "reconcile", alice, "--wait", "--json"))["items"] as object[];
  assert.ok(named);

  await sql`UPDATE fleet_sweeps SET lease_until = NULL`.execute(database.db);
  await sql`SELECT graphile_worker.add_job('sweep.runtimes', '{}')`.execute(database.db);
  await until(async () => {
    const { text } = await call(`${daemon.internalUrl}/metrics`);
    return /^openclaw_orphans 1$/m.test(text) && /^openclaw_sweep_age_seconds [0-9.]+$/m.test(text) ? text : undefined;
  }, "the sweep's metrics");
  expectCode(await openclaw("fleet", "reap"), 2);
  expectCode(await openclaw("fleet", "reap", "--confirm", "1"), 0);
  assert.equal(await readFile(path.join(runtimes, UNKNOWN, "state", "notes"), "utf8"), "kept");
  expectCode(await openclaw("fleet", "drift"), 0);
  const again = documentOf(expectCode(await openclaw("fleet", "reap", "--json"), 0));
  assert.deepEqual(again, { dryRun: false, orphans: [] });
});

test("reap keeps the data of a deleted tenant, and erases what was purged or is asked for by name", async (t) => {
  await using database = await createTestDatabase();
  const { env, runtimes, openclaw } = await setUp(t, database);
  const daemon = await startDaemon(t, env);
  await daemon.saw("working");
  const created = await openclaw("tenant", "create", "alice", "--email", "a@example.com", "--billing-exempt");
  const alice = expectCode(created, 0).stdout.trim();
  expectCode(await openclaw("tenant", "provision", "alice", "--wait"), 0);
  const copy = path.join(env.OPENCLAW_DATA_DIR, "copy");
  await cp(path.join(runtimes, alice, "runtime.json"), copy);
  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
  await mkdir(path.join(runtimes, alice), { recursive: true });
  await cp(copy, path.join(runtimes, alice, "runtime.json"));
  for (const tenantId of [UNKNOWN, PURGED]) await plantRuntime(runtimes, alice, tenantId);
  await plantRuntime(runtimes, alice, alice);
  await sql`
    INSERT INTO audit_log (at, actor, action, tenant_id, detail)
    VALUES (now(), 'test', 'tenant.purged', ${PURGED}, '{"slug": "bobby"}')`.execute(database.db);

  const shown = expectCode(await openclaw("fleet", "reap", "--dry-run"), 0).stdout;
  assert.match(shown, new RegExp(`${alice} +asleep +alice \\(deleted\\) +kept`));
  assert.match(shown, new RegExp(`${UNKNOWN} +asleep +not on record +kept`));
  assert.match(shown, new RegExp(`${PURGED} +asleep +purged +erased`));
  const { orphans } = documentOf(
    expectCode(await openclaw("fleet", "reap", "--erase-unknown", "--confirm", "3", "--json"), 0),
  );
  const results = (orphans as { tenantId: string; result: string }[]).map(({ tenantId, result }) => [tenantId, result]);
  assert.deepEqual(Object.fromEntries(results), { [alice]: "removed", [UNKNOWN]: "erased", [PURGED]: "erased" });
  assert.equal(await readFile(path.join(runtimes, alice, "state", "notes"), "utf8"), "kept");
  for (const tenantId of [UNKNOWN, PURGED])
    await assert.rejects(readFile(path.join(runtimes, tenantId, "state", "notes")), { code: "ENOENT" });
  const { rows } = await sql<{ action: string }>`
    SELECT action FROM audit_log WHERE action = 'fleet.reaped'`.execute(database.db);
  assert.equal(rows.length, 3);
});

test("without a daemon a fleet is shown as last seen, and what is waited for runs out of time", async (t) => {
  await using database = await createTestDatabase();
  const { env } = await setUp(t, database);
  const openclaw = await openFolder(t, env);
  assert.match(expectCode(await openclaw("fleet", "status"), 0).stdout, /^daemons +none/m);
  assert.match(expectCode(await openclaw("fleet", "drift"), 3).stderr, /no daemon with the gateway role/);
  const alone = await openFolder(t, { ...env, OPENCLAW_INTERNAL_URL: "http://127.0.0.1:9" });
  for (const [slug, tier] of [
    ["alice", "basic"],
    ["bobby", "plus"],
    ["carol", "basic"],
  ] as const)
    expectCode(
      await alone("tenant", "create", slug, "--email", `${slug}@example.com`, "--tier", tier, "--trial-days", "7"),
      0,
    );
  const late = documentOf(
    expectCode(await alone("fleet", "reconcile", "alice", "--wait", "--timeout", "0", "--json"), 9),
  );
  assert.deepEqual(
    (late["items"] as { result: string }[]).map(({ result }) => result),
    ["under-way"],
  );

  // Active, and last seen an hour ago: healthy, asleep on purpose, and starting for too long (F87).
  await sql`UPDATE tenants SET status = 'active', provisioning_deadline = NULL, hibernated_at = CASE slug WHEN 'bobby' THEN now() END`.execute(
    database.db,
  );
  await sql`
    INSERT INTO runtimes (tenant_id, driver, state, image, spec_hash, reason, healthy_at, state_since, observed_at)
    SELECT id, 'local', CASE slug WHEN 'alice' THEN 'running' WHEN 'bobby' THEN 'asleep' ELSE 'starting' END, 'openclaw:1', 'x',
      CASE slug WHEN 'carol' THEN 'its webhook listener is not up yet' END, now(), now() - interval '1 hour', now()
    FROM tenants`.execute(database.db);
  const health = expectCode(await alone("fleet", "health"), 8);
  assert.match(health.stdout, /carol +active +unhealthy +1h +its webhook listener is not up yet/);
  assert.match(health.stderr, /1 healthy, 1 asleep, 0 starting, 1 unhealthy/);
  expectCode(await alone("fleet", "health", "--tier", "plus"), 0);
  expectCode(await alone("fleet", "health", "--tier", "plus", "alice"), 2);
  expectCode(await alone("fleet", "reconcile"), 2);
  expectCode(await alone("fleet", "reconcile", "nobody"), 4);
  const counts = documentOf(await alone("fleet", "status", "--json"));
  assert.deepEqual(counts["images"], [{ image: "openclaw:1", awake: 2, asleep: 1 }]);
  assert.deepEqual(counts["asleep"], { idle: 1, stopped: 0 });
});
