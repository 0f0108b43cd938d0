import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { sql } from "kysely";
import { createTestDatabase, type TestDatabase } from "../src/core/testing/database.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { documentOf, expectCode, openFolder, type Outcome, temporaryFolder } from "./command.ts";
import { startDaemon } from "./daemon-process.ts";

const BOT_TOKEN = "4242:loopback-bot-token";
const OLD = "ghcr.io/openclaw/openclaw:2026.9.6";
const NEW = "ghcr.io/openclaw/openclaw:2026.10.1";

function errorOf(outcome: Outcome): string {
  const { error } = documentOf(outcome) as { error?: { code: string } };
  return error?.code ?? "none";
}

async function movesOf(database: TestDatabase): Promise<Record<string, number>> {
  const { rows } = await sql<{ slug: string; moves: number }>`
    SELECT slug, count(*) FILTER (WHERE action = 'tenant.moved') AS moves
      FROM tenants LEFT JOIN audit_log ON tenant_id = tenants.id GROUP BY slug`.execute(database.db);
  return Object.fromEntries(rows.map(({ slug, moves }) => [slug, moves]));
}

/** An environment in which runtimes of the local driver find a bot. */
async function openStage(t: TestContext, database: TestDatabase) {
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  t.after(() => telegram.close());
  const env = {
    DATABASE_URL: database.url,
    OPENCLAW_DATA_DIR: await temporaryFolder(t),
    TELEGRAM_API_ROOT: telegram.url,
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
    TELEGRAM_WEBHOOK_SECRET: "webhook-secret",
  };
  const openclaw = await openFolder(t, env);
  return { env, openclaw };
}

test("a rollout goes on where a killed daemon left it, moves everybody once, and is taken back by a rollback", async (t) => {
  await using database = await createTestDatabase();
  const { env, openclaw } = await openStage(t, database);
  // One that stays is the gateway of the runtimes, one does the work and dies of it.
  const gateway = await startDaemon(t, env, ["--roles", "gateway"]);
  await gateway.saw("ready");
  const worker = await startDaemon(t, env, ["--roles", "worker"]);
  await worker.saw("working");
  const slugs = ["alice", "bob", "carol", "dave"];
  for (const slug of slugs) {
    expectCode(await openclaw("tenant", "create", slug, "--email", `${slug}@example.com`, "--billing-exempt"), 0);
    expectCode(await openclaw("tenant", "provision", slug), 0);
  }
  for (const slug of slugs) {
    while (documentOf(await openclaw("tenant", "show", slug, "--json"))["status"] !== "active") await delay(50);
  }
  expectCode(await openclaw("tenant", "suspend", "dave"), 0);

  expectCode(await openclaw("fleet", "rollout", "start", "--image", NEW, "--parallel", "1"), 0);
  assert.equal(errorOf(expectCode(await openclaw("fleet", "rollout", "start", "--json"), 5)), "rollout_under_way");
  assert.equal(
    errorOf(expectCode(await openclaw("fleet", "settings", "set", "--image", NEW, "--json"), 5)),
    "rollout_under_way",
  );
  const status = async () => documentOf(expectCode(await openclaw("fleet", "rollout", "status", "--json"), 0));
  const countsOf = async () => (await status())["counts"] as Record<string, number>;
  while ((await countsOf())["healthy"] === 0) await delay(20);
  worker.child.kill("SIGKILL");
  await worker.exit;
  // Its environment wants something else, which no longer counts.
  const second = await startDaemon(t, { ...env, OPENCLAW_RUNTIME_IMAGE: "openclaw:other" }, ["--roles", "worker"]);
  await second.saw("working");
  assert.ok(second.output.some((line) => line.includes("something else than the release that counts")));
  const watched = expectCode(await openclaw("fleet", "rollout", "status", "--watch"), 0);
  assert.match(watched.stdout, /rollout 1 is finished, 4 of 4: 3 healthy, 1 moved asleep/);
  assert.deepEqual(await movesOf(database), { alice: 1, bob: 1, carol: 1, dave: 1 });
  const shown = documentOf(expectCode(await openclaw("fleet", "settings", "show", "--json"), 0));
  assert.deepEqual([shown["source"], (shown["inForce"] as { image: string }).image], ["operator", NEW]);

  const back = expectCode(await openclaw("fleet", "rollback", "--wait", "--json"), 0);
  assert.deepEqual(
    [documentOf(back)["kind"], documentOf(back)["status"], (documentOf(back)["release"] as { image: string }).image],
    ["rollback", "finished", OLD],
  );
  assert.match(back.stderr, /rollback 2 is finished/);
  const refused = expectCode(await openclaw("fleet", "rollout", "start", "--image", NEW, "--json"), 5);
  assert.equal(errorOf(refused), "release_failed");
  for (const slug of slugs) expectCode(await openclaw("tenant", "deprovision", slug, "--confirm", slug, "--wait"), 0);
});

test("without a daemon a rollout waits, can be looked at, paused, resumed and aborted, and says what is wrong with a wish", async (t) => {
  await using database = await createTestDatabase();
  const openclaw = await openFolder(t, { DATABASE_URL: database.url });
  const rollout = (...words: string[]) => openclaw("fleet", "rollout", ...words);
  assert.equal(errorOf(expectCode(await rollout("status", "--json"), 4)), "rollout_not_found");
  assert.equal(errorOf(expectCode(await rollout("pause", "--json"), 5)), "no_rollout");
  for (const image of ["openclaw", "openclaw:latest"])
    assert.equal(errorOf(expectCode(await rollout("start", "--image", image, "--json"), 2)), "image_not_immutable");
  assert.match(expectCode(await rollout("start", "--cohorts", "5%,all"), 2).stderr, /--cohorts.*1,5%,25%,100%/);
  assert.match(expectCode(await rollout("start", "--model-basic", "nonsense"), 2).stderr, /no price for nonsense/);
  assert.match(expectCode(await rollout("start", "--deadline", "5"), 2).stderr, /--deadline.*from 10/);
  expectCode(await openclaw("fleet", "settings", "set"), 2);
  const shown = documentOf(expectCode(await openclaw("fleet", "settings", "show", "--json"), 0));
  assert.equal(shown["source"], "environment");

  for (const slug of ["alice", "bob"]) {
    expectCode(await openclaw("tenant", "create", slug, "--email", `${slug}@example.com`, "--billing-exempt"), 0);
  }
  await sql`UPDATE tenants SET status = 'active', status_changed_at = now()`.execute(database.db);
  const preview = documentOf(expectCode(await rollout("start", "--image", NEW, "--dry-run", "--json"), 0));
  assert.deepEqual(preview["cohorts"], [
    { size: "1", tenants: ["alice"] },
    { size: "100%", tenants: ["bob"] },
  ]);
  expectCode(await rollout("status"), 4);
  assert.match(expectCode(await rollout("start", "--image", NEW, "--dry-run"), 0).stdout, /2 tenants in 2 cohorts/);
  const waited = expectCode(await rollout("start", "--image", NEW, "--wait", "--timeout", "0", "--json"), 9);
  assert.equal(errorOf(waited), "wait_timeout");
  assert.match(waited.stderr, /Is a daemon running\?/);
  expectCode(await rollout("pause", "--reason", "lunch"), 0);
  const paused = expectCode(await rollout("status"), 0).stdout;
  assert.match(paused, /^rollout +1, paused: lunch$/m);
  assert.match(paused, /^COHORT +UP TO/m);
  expectCode(await rollout("status", "--watch"), 0);
  expectCode(await rollout("status", "--watch", "--json"), 2);
  assert.equal(documentOf(expectCode(await rollout("resume", "--parallel", "3", "--json"), 0))["parallel"], 3);
  assert.equal(errorOf(expectCode(await rollout("resume", "--json"), 5)), "rollout_state");
  const aborted = documentOf(expectCode(await rollout("abort", "--json"), 0));
  assert.deepEqual([aborted["status"], aborted["tenants"]], ["aborted", 2]);
  assert.equal(errorOf(expectCode(await openclaw("fleet", "rollback", "--json"), 5)), "nothing_to_go_back_to");
  const set = documentOf(expectCode(await openclaw("fleet", "settings", "set", "--image", NEW, "--json"), 0));
  assert.equal(set["image"], NEW);
  assert.match(expectCode(await openclaw("fleet", "rollback", "--dry-run"), 0).stdout, new RegExp(`to ${OLD}`));
});
