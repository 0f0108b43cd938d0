import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "kysely";
import { runtimeName } from "../src/core/adapters/runtime/azure/names.ts";
import { until } from "../src/core/adapters/runtime/contract.ts";
import { provisionTenant } from "../src/core/orchestrator/orchestrator.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { createTenant } from "../src/core/tenants/tenants.ts";
import { type AzureStage, openAzureStage, write } from "./azure-stage.ts";
import { documentOf, expectCode } from "./command.ts";

/** How many tenants; 500 by OPENCLAW_TEST_FLEET. */
const TENANTS = Number(process.env["OPENCLAW_TEST_FLEET"] ?? 24);
const BAD = Math.max(2, Math.round(TENANTS * 0.03));
const DEADLINE_S = TENANTS > 100 ? 90 : 30;
const ASLEEP = Math.round(TENANTS / 10);
/** So few that they are what bounds it. */
const CALLS_PER_MINUTE = Math.max(3_000, TENANTS * 20);
const FIRST_CHAT = 500_000_000;
const WAIT_MS = 1_500_000;

type Fleet = AzureStage & { ids: TenantId[]; old: string; next: string; bad: Set<string> };
type Progress = { status: string; failures: number; counts: Record<string, number> };

async function openFleetStage(t: Parameters<typeof openAzureStage>[0]): Promise<Fleet> {
  // Where its gateway is must not change with the daemon: every runtime would be made anew.
  const env = { OPENCLAW_INTERNAL_URL: "http://gateway.invalid:9090" };
  const stage = await openAzureStage(t, { callsPerMinute: CALLS_PER_MINUTE, env });
  const ctx = { db: stage.database.db, clock: systemClock, actor: { name: "ops" } };
  const ids: TenantId[] = [];
  for (let nth = 0; nth < TENANTS; nth += 1) {
    const slug = `t-${String(nth).padStart(4, "0")}`;
    const owner = { email: `${slug}@example.com`, telegramChatId: FIRST_CHAT + nth };
    const { tenant } = await createTenant(ctx, { slug, ...owner, billingExempt: true });
    await provisionTenant(ctx, tenant.id, "test");
    ids.push(tenant.id);
  }
  const [registry] = stage.stamps.map(({ acrServer }) => acrServer);
  // In the third cohort: some are moved before the first fails, and most are not when it is halted.
  const first = Math.ceil(TENANTS * 0.12);
  const bad = new Set(ids.slice(first, first + BAD).map(runtimeName));
  return { ...stage, ids, old: `${registry}/openclaw:1`, next: `${registry}/openclaw:2`, bad };
}

async function countTenants({ database }: AzureStage, condition: string): Promise<number> {
  const { rows } = await sql<{ n: number }>`
    SELECT count(*)::int AS n FROM tenants LEFT JOIN runtimes ON tenant_id = tenants.id WHERE ${sql.raw(condition)}`.execute(
    database.db,
  );
  return rows[0]?.n ?? 0;
}

function untilCount(stage: AzureStage, condition: string, count: number): Promise<true> {
  return until(async () => ((await countTenants(stage, condition)) >= count ? true : undefined), condition, WAIT_MS);
}

async function progressOf({ openclaw }: AzureStage): Promise<Progress> {
  return documentOf(expectCode(await openclaw("fleet", "rollout", "status", "--json"), 0)) as unknown as Progress;
}

function untilProgress(stage: AzureStage, isSo: (progress: Progress) => boolean, what: string): Promise<Progress> {
  return until(
    async () => {
      const progress = await progressOf(stage);
      return isSo(progress) ? progress : undefined;
    },
    what,
    WAIT_MS,
  );
}

/** No job is left that would look at a runtime. */
async function untilQuiet({ database }: AzureStage): Promise<void> {
  await until(
    async () => {
      const { rows } = await sql`SELECT id FROM graphile_worker.jobs
    WHERE task_identifier LIKE 'tenant.%' AND attempts < max_attempts`.execute(database.db);
      return rows.length === 0 ? true : undefined;
    },
    "the end of all jobs",
    WAIT_MS,
  );
}

/** Never more calls in any minute than were allowed. */
function assertWithinBudget({ arm, stamps }: AzureStage): number {
  let most = 0;
  for (const { subscriptionId } of stamps) {
    const times = arm.calls
      .filter(({ path }) => path.toLowerCase().includes(subscriptionId.toLowerCase()))
      .map(({ at }) => at)
      .toSorted((a, b) => a - b);
    for (let from = 0, to = 0; to < times.length; to += 1) {
      while ((times[to] ?? 0) - (times[from] ?? 0) >= 60_000) from += 1;
      most = Math.max(most, to - from + 1);
    }
  }
  assert.ok(most <= CALLS_PER_MINUTE, `${most} calls in a minute, ${CALLS_PER_MINUTE} allowed`);
  return most;
}

test(
  `${TENANTS} tenants on Azure: a rollout that fails for some halts, rolls those back, survives kill -9 and goes on; sleepers move asleep; hands are mended; nothing foreign is touched (F39, F40, F43, F49, F84, F87)`,
  { timeout: TENANTS > 100 ? 3_600_000 : 300_000 },
  async (t) => {
    const stage = await openFleetStage(t);
    const { arm, openclaw, database, ids, old, next, bad } = stage;
    await arm.seed.app("somebody-elses", { tags: { owner: "other" } });
    const started = performance.now();
    const since = (): string => `${Math.round((performance.now() - started) / 1_000)} s`;
    let daemon = await stage.startDaemon();
    await untilCount(stage, "status = 'active' AND runtimes.state = 'running'", TENANTS);
    t.diagnostic(`${TENANTS} active after ${since()}, ${arm.calls.length} calls`);

    // Some sleep.
    const sleepers = ids.slice(-ASLEEP);
    for (const id of sleepers) expectCode(await openclaw("tenant", "sleep", id), 0);
    await stage.passQuietTime();
    await untilCount(stage, "runtimes.state = 'asleep'", ASLEEP);

    // A rollout that does not agree with some, killed in the middle.
    arm.setHealth(({ app, image }) => (bad.has(app) && image === next ? "unhealthy" : "healthy"));
    const options = ["--max-failures", String(BAD), "--parallel", "6", "--deadline", String(DEADLINE_S)];
    expectCode(await openclaw("fleet", "rollout", "start", "--image", next, ...options), 0);
    await untilProgress(stage, ({ counts }) => (counts["healthy"] ?? 0) >= TENANTS * 0.08, "some to be moved");
    daemon.child.kill("SIGKILL");
    await daemon.exit;
    daemon = await stage.startDaemon();
    const settled = ({ counts }: Progress) => counts["moving"] === 0 && counts["rolling-back"] === 0;
    const halted = await untilProgress(stage, (one) => one.status === "halted" && settled(one), "the halt");
    assert.equal(halted.failures, BAD);
    assert.ok((halted.counts["pending"] ?? 0) > TENANTS / 2, "most are left alone");
    assert.equal(halted.counts["rolled-back"], BAD);
    t.diagnostic(`halted after ${since()}: ${JSON.stringify(halted.counts)}`);
    const imageOf = (name: string) => arm.state.apps().find((app) => app.name === name)?.image;
    const isAwake = (name: string) => arm.state.apps().find((app) => app.name === name)?.isAwake;
    for (const name of bad) assert.equal(imageOf(name), old);

    // It is put right, and goes on.
    arm.setHealth(() => "healthy");
    expectCode(await openclaw("fleet", "rollout", "resume", "--max-failures", String(2 * BAD)), 0);
    const ended = await untilProgress(stage, (one) => one.status === "finished" && settled(one), "the end");
    t.diagnostic(`ended after ${since()}: ${JSON.stringify(ended.counts)}`);
    assert.equal(ended.counts["moved-asleep"], ASLEEP);
    assert.equal((ended.counts["healthy"] ?? 0) + (ended.counts["rolled-back"] ?? 0), TENANTS - ASLEEP);

    // Nobody was given the new image twice, and sleepers have not been woken.
    const given = new Map<string, number>();
    for (const { method, path, body, status } of arm.calls) {
      const [, name] = /\/containerApps\/([^/]+)$/i.exec(path) ?? [];
      if (method !== "PUT" || name === undefined || status >= 300 || !JSON.stringify(body).includes(`"${next}"`))
        continue;
      given.set(name, (given.get(name) ?? 0) + 1);
    }
    assert.deepEqual(
      [...given].filter(([, times]) => times > 1),
      [],
    );
    for (const id of sleepers) {
      assert.equal(isAwake(runtimeName(id)), false);
      assert.equal(given.get(runtimeName(id)), undefined);
    }
    const [sleeper] = sleepers;
    assert.ok(sleeper);
    await write(daemon, FIRST_CHAT + ids.indexOf(sleeper), "wake up");
    await until(async () => arm.deliveries.find(({ app }) => app === runtimeName(sleeper)), "its message", 60_000);
    assert.equal(imageOf(runtimeName(sleeper)), next);

    // Changed behind its back, one removed, one woken: found by one sweep that only lists, and mended.
    const [changed, removed] = ids;
    const woken = sleepers[1];
    assert.ok(changed && removed && woken);
    await untilQuiet(stage);
    arm.tamper(runtimeName(changed), ({ template }) =>
      Object.assign(template, { scale: { minReplicas: 1, maxReplicas: 5 } }),
    );
    arm.tamper(runtimeName(woken), ({ revisions }) => revisions.slice(-1).forEach((one) => (one.active = true)));
    const drift = documentOf(await openclaw("fleet", "drift", "--json"));
    assert.ok(JSON.stringify(drift).includes("scale"), JSON.stringify(drift).slice(0, 500));
    const from = arm.calls.length;
    await sql`SELECT graphile_worker.add_job('sweep.runtimes', '{}'::json)`.execute(database.db);
    const app = (id: TenantId) => arm.state.apps().find(({ name }) => name === runtimeName(id));
    await until(async () => (app(changed)?.template.scale?.maxReplicas === 1 ? true : undefined), "the scale", 60_000);
    await until(async () => (app(woken)?.isAwake === false ? true : undefined), "it to sleep again", 60_000);
    const calls = arm.calls.slice(from);
    const looked = new Set(
      calls.filter(({ path }) => /\/containerApps\/oc-/i.test(path)).map(({ path }) => path.split("/")[8]),
    );
    assert.deepEqual(
      looked,
      new Set([runtimeName(changed), runtimeName(woken)]),
      "only those that differ were looked at",
    );
    assert.ok(calls.length - looked.size * 20 < CALLS_PER_MINUTE / 4);
    assert.deepEqual(
      arm.calls.filter(({ path }) => path.includes("somebody-elses")),
      [],
    );
    t.diagnostic(
      `most calls in a minute: ${assertWithinBudget(stage)} of ${CALLS_PER_MINUTE}; ${arm.calls.length} in all, ${since()}`,
    );
    assert.deepEqual(arm.violations, []);
  },
);
