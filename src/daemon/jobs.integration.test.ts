import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { sql } from "kysely";
import { createMemoryDriver } from "../core/adapters/runtime/memory.ts";
import type { RuntimeDriver } from "../core/adapters/runtime/runtime-driver.ts";
import { createContext } from "../core/context.ts";
import { readConnectionTotals } from "../core/integrations/integrations.ts";
import { readSweeps } from "../core/orchestrator/orchestrator.ts";
import { loadConfig } from "../core/platform/config.ts";
import { createPool } from "../core/platform/db.ts";
import type { TenantId } from "../core/platform/ids.ts";
import { enqueueJob } from "../core/platform/jobs.ts";
import { createLog } from "../core/platform/log.ts";
import { createTenant, enqueueConverge } from "../core/tenants/tenants.ts";
import { createTestDatabase, type TestDatabase } from "../core/testing/database.ts";
import { type JobRunner, startJobs } from "./jobs.ts";
import { createMetrics } from "./metrics.ts";

const WAIT_MS = 30_000;

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const deadline = performance.now() + WAIT_MS; !(await condition()); await delay(10)) {
    if (performance.now() > deadline) throw new Error(`it does not come about that ${what}`);
  }
}

/** What a daemon needs to run jobs, over runtimes of the test's. */
async function openDaemon(t: TestContext, database: TestDatabase, runtimes: RuntimeDriver) {
  const dataDir = await mkdtemp(path.join(tmpdir(), "openclaw-jobs-"));
  t.after(() => rm(dataDir, { recursive: true, force: true }));
  const { config, secrets } = loadConfig({ DATABASE_URL: database.url, OPENCLAW_DATA_DIR: dataDir });
  const ctx = await createContext(config, secrets, createLog("error", { write: () => true }), { runtimes });
  const pool = createPool({ url: database.url, max: 12, applicationName: "jobs", onIdleError: () => undefined });
  const { image, modelsByTier } = config.runtime;
  const readFleet = async () => ({ image, modelsByTier, internalUrl: "http://127.0.0.1:9" });
  const metrics = createMetrics({
    laneDepth: () => ({ lanes: 0, updates: 0 }),
    shardsHeld: () => 0,
    readBacklog: () => Promise.reject(new Error("not read here")),
    now: () => new Date(),
    sendsPerSecond: 30,
    readPacer: () => ctx.pacer.state(),
    readArmBudgets: undefined,
    readSweeps: () => readSweeps(ctx.db),
    readConnections: () => readConnectionTotals(ctx),
  });
  let jobs: JobRunner | undefined;
  return {
    ctx,
    start: () =>
      (jobs = startJobs(
        {
          ...ctx,
          readFleet,
          payLinks: async () => undefined,
          connectLinks: async () => undefined,
          lastActivity: async () => new Map(),
          retentionDays: 30,
        },
        pool,
        metrics,
      )),
    async stop() {
      await jobs?.stop();
      await pool.end();
      await ctx.close();
    },
  };
}

test("jobs of one tenant never run twice at once, over two daemons, while those of others go on (F45)", async (t) => {
  await using database = await createTestDatabase();
  const memory = createMemoryDriver();
  const inside = new Map<TenantId, number>();
  const passed = new Set<TenantId>();
  let mostAtOnce = 0;
  let runs = 0;
  let hold: ((tenantId: TenantId) => Promise<void>) | undefined;
  const driver: RuntimeDriver = {
    ...memory,
    async ensure(spec, call) {
      const { tenantId } = spec;
      inside.set(tenantId, (inside.get(tenantId) ?? 0) + 1);
      mostAtOnce = Math.max(mostAtOnce, inside.get(tenantId) ?? 0);
      await hold?.(tenantId);
      passed.add(tenantId);
      inside.set(tenantId, (inside.get(tenantId) ?? 0) - 1);
      return memory.ensure(spec, call);
    },
  };
  const daemons = [await openDaemon(t, database, driver), await openDaemon(t, database, driver)];
  const ctx = daemons[0]?.ctx;
  assert.ok(ctx);
  const newTenant = async (slug: string) => {
    const input = { slug, email: `${slug}@example.com`, trialDays: 14 };
    return (await createTenant(ctx, input)).tenant.id;
  };
  try {
    const held = await newTenant("held");
    // While a job is at work on the tenant it is asked for again, and so are others after it: once those are through, both
    // daemons had every occasion to take the tenant's second job, which was due before theirs.
    hold = async (tenantId) => {
      if (tenantId !== held) return;
      runs += 1;
      if (runs > 5) return;
      await enqueueConverge(ctx.db, held);
      const others: TenantId[] = [];
      for (let other = 0; other < 12; other += 1) others.push(await newTenant(`other-${runs}-${other}`));
      await until(() => others.every((other) => passed.has(other)), "the others go on");
    };
    for (const daemon of daemons) daemon.start();
    await until(() => runs > 5, "each request is served");
    assert.equal(mostAtOnce, 1);
    await until(() => inside.get(held) === 0, "the last one ends");
  } finally {
    for (const daemon of daemons) await daemon.stop();
  }
});

test("the retention sweep forgets old notices, links and idempotency keys", async (t) => {
  await using database = await createTestDatabase();
  const daemon = await openDaemon(t, database, createMemoryDriver());
  try {
    const { tenant } = await createTenant(daemon.ctx, { slug: "alice", email: "alice@example.com" });
    const old = new Date(Date.now() - 40 * 86_400_000);
    await database.pool.query("INSERT INTO telegram_notices VALUES (7, 'expired:1', $1), (-7, 'privateOnly', $1)", [
      old,
    ]);
    await database.pool.query("INSERT INTO idempotency_keys VALUES ('k', $1, '', $2)", [tenant.id, old]);
    await database.pool.query("INSERT INTO link_tokens VALUES ('\\x00', $1, $2, $2)", [tenant.id, old]);
    await enqueueJob(daemon.ctx.db, "sweep.retention", {});
    daemon.start();
    await until(async () => {
      const { rows } = await database.pool.query(
        `SELECT (SELECT count(*) FROM idempotency_keys)::int + (SELECT count(*) FROM link_tokens)::int AS requests,
                (SELECT array_agg(topic) FROM telegram_notices) AS topics`,
      );
      return rows[0].requests === 0 && rows[0].topics.join() === "privateOnly";
    }, "they are forgotten");
  } finally {
    await daemon.stop();
  }
});

test("a job whose fetching got lost is given back, and one that runs is left alone", async (t) => {
  await using database = await createTestDatabase();
  const memory = createMemoryDriver();
  const held = Promise.withResolvers<void>();
  const entered: TenantId[] = [];
  const daemon = await openDaemon(t, database, {
    ...memory,
    async ensure(spec, call) {
      entered.push(spec.tenantId);
      if (entered.length === 1) await held.promise;
      return memory.ensure(spec, call);
    },
  });
  const { ctx } = daemon;
  try {
    const jobs = daemon.start();
    const { tenant: running } = await createTenant(ctx, {
      slug: "running",
      email: "running@example.com",
      trialDays: 14,
    });
    await until(() => entered.length === 1, "the first job is at work");
    // As if a worker had locked it, and never heard so.
    const { tenant: lost } = await createTenant(ctx, { slug: "lost", email: "lost@example.com" });
    // As if a worker had locked it, and never heard so.
    await ctx.db.transaction().execute(async (tx) => {
      await enqueueConverge(tx, lost.id);
      await sql`UPDATE graphile_worker._private_jobs SET locked_at = now(), locked_by = ${jobs.workerIds().at(-1)}
        WHERE key = ${`converge:${lost.id}`}`.execute(tx);
    });
    assert.equal(await jobs.giveLostBack(), 0);
    assert.equal(await jobs.giveLostBack(), 1);
    await until(async () => {
      const { rows } = await database.pool.query("SELECT FROM graphile_worker.jobs WHERE key = $1", [
        `converge:${lost.id}`,
      ]);
      return rows.length === 0;
    }, "the lost one is done");
    assert.deepEqual(entered, [running.id]);
  } finally {
    held.resolve();
    await daemon.stop();
  }
});
