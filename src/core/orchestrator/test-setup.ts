import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { sql } from "kysely";
import { createMemoryDriver, type MemoryDriver } from "../adapters/runtime/memory.ts";
import { createFileVault } from "../adapters/vault/file-vault.ts";
import type { Vault } from "../adapters/vault/vault.ts";
import { fixedClock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import { createLog } from "../platform/log.ts";
import { changeStatus, createTenant, type StatusChange } from "../tenants/tenants.ts";
import type { FleetSettings } from "./spec.ts";
import { advanceRotation, convergeTenant, type OrchestratorContext } from "./orchestrator.ts";

export const FLEET: FleetSettings = {
  image: "ghcr.io/openclaw/openclaw:2026.9.6",
  modelsByTier: { basic: ["claude-haiku-4-5"], plus: ["claude-sonnet-4-5", "claude-haiku-4-5"] },
  internalUrl: "http://127.0.0.1:9090",
};

const ENOUGH_RUNS = 50;
const untilStopped = new AbortController().signal;

/** What may be due for a tenant; the first of them goes first. */
const TENANT_JOBS = ["converge", "rotate-keys"] as const;
export type TenantJob = (typeof TENANT_JOBS)[number];

export type Bench = {
  ctx: OrchestratorContext;
  clock: ReturnType<typeof fixedClock>;
  driver: MemoryDriver;
  vault: Vault;
  newTenant(options?: { trialDays?: number; billingExempt?: boolean }): Promise<TenantId>;
  move(id: TenantId, ...changes: StatusChange[]): Promise<void>;
  /** One run of the job, whether one waits or not. */
  converge(id: TenantId, ctx?: OrchestratorContext): Promise<void>;
  /** One run of the job that rotates keys. */
  rotate(id: TenantId, ctx?: OrchestratorContext): Promise<void>;
  /**
   * Runs the tenant's jobs, however long they were to wait, until none is left; a run that was cut off is repeated. The clock is moved
   * to when a rotation of keys goes on.
   */
  settle(id: TenantId, run?: (job: TenantJob) => Promise<void>): Promise<void>;
  /** In how many ms the tenant's job is due; undefined: there is none. */
  dueInMs(id: TenantId): Promise<number | undefined>;
};

/** The orchestrator over `db`, with a memory driver and a file vault of its own unless given others. */
export async function setUpOrchestrator(
  t: TestContext,
  db: Db,
  given: Partial<Pick<OrchestratorContext, "runtimes" | "vault">> = {},
): Promise<Bench> {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-orchestrator-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const clock = fixedClock(new Date("2026-03-01T12:00:00Z"));
  const driver = createMemoryDriver();
  const vault = given.vault ?? createFileVault({ folder, key: undefined });
  const ctx: OrchestratorContext = {
    db,
    clock,
    actor: { name: "orchestrator" },
    log: createLog("error", { write: () => true }),
    vault,
    runtimes: given.runtimes ?? driver,
    fleet: FLEET,
    retentionDays: 30,
    lastActivity: async () => new Map(),
  };

  const converge = (id: TenantId, own = ctx): Promise<void> => convergeTenant(own, id, untilStopped);
  const rotate = (id: TenantId, own = ctx): Promise<void> => advanceRotation(own, id, untilStopped);
  return {
    ctx,
    clock,
    driver,
    vault,
    converge,
    rotate,
    async newTenant(options = { trialDays: 14 }) {
      const slug = `t-${folder.slice(-6).toLowerCase()}-${++tenants}`;
      return (await createTenant(ctx, { slug, email: `${slug}@example.com`, ...options })).tenant.id;
    },
    async move(id, ...changes) {
      for (const change of changes)
        await db.transaction().execute((tx) => changeStatus({ ...ctx, db: tx }, id, change));
    },
    async settle(id, run = (job) => (job === "converge" ? converge(id) : rotate(id))) {
      for (let runs = 0; ; runs++) {
        const due = await takeJob(db, id);
        if (due === undefined) return;
        assert.ok(runs < ENOUGH_RUNS, "the jobs of a tenant come to an end");
        // Whole seconds: the clock that jobs are due by goes on meanwhile.
        if (due.job === "rotate-keys") clock.advance(Math.max(0, Math.ceil(due.inMs / 1_000) * 1_000));
        while (await wasCutOff(() => run(due.job))) assert.ok(runs++ < ENOUGH_RUNS, "a repeated job gets through");
      }
    },
    async dueInMs(id) {
      const { rows } = await sql<{ ms: number }>`
        SELECT (extract(epoch FROM run_at - now()) * 1000)::float AS ms
        FROM graphile_worker.jobs WHERE key = ${`converge:${id}`}`.execute(db);
      return rows[0]?.ms;
    },
  };
}

let tenants = 0;

async function takeJob(db: Db, id: TenantId): Promise<{ job: TenantJob; inMs: number } | undefined> {
  for (const job of TENANT_JOBS) {
    const { rows } = await sql<{ inMs: number }>`
      SELECT (extract(epoch FROM min(run_at) - now()) * 1000)::float AS in_ms, graphile_worker.complete_jobs(array_agg(id))
      FROM graphile_worker.jobs WHERE key = ${`${job}:${id}`} HAVING count(*) > 0`.execute(db);
    const [row] = rows;
    if (row !== undefined) return { job, inMs: row.inMs };
  }
  return undefined;
}

/** The end of the process in the middle of a job: nothing after it runs. */
export class CutOff extends Error {}

async function wasCutOff(work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return false;
  } catch (error) {
    if (error instanceof CutOff) return true;
    throw error;
  }
}
