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
import { convergeTenant, type OrchestratorContext } from "./orchestrator.ts";

export const FLEET: FleetSettings = {
  image: "ghcr.io/openclaw/openclaw:2026.9.6",
  modelsByTier: { basic: ["claude-haiku-4-5"], plus: ["claude-sonnet-4-5", "claude-haiku-4-5"] },
  internalUrl: "http://127.0.0.1:9090",
};

const ENOUGH_RUNS = 50;
const untilStopped = new AbortController().signal;

export type Bench = {
  ctx: OrchestratorContext;
  clock: ReturnType<typeof fixedClock>;
  driver: MemoryDriver;
  vault: Vault;
  newTenant(options?: { trialDays?: number; billingExempt?: boolean }): Promise<TenantId>;
  move(id: TenantId, ...changes: StatusChange[]): Promise<void>;
  /** One run of the job, whether one waits or not. */
  converge(id: TenantId, ctx?: OrchestratorContext): Promise<void>;
  /** Runs the tenant's jobs, however long they were to wait, until none is left; a run that was cut off is repeated. */
  settle(id: TenantId, run?: () => Promise<void>): Promise<void>;
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
  return {
    ctx,
    clock,
    driver,
    vault,
    converge,
    async newTenant(options = { trialDays: 14 }) {
      const slug = `t-${folder.slice(-6).toLowerCase()}-${++tenants}`;
      return (await createTenant(ctx, { slug, email: `${slug}@example.com`, ...options })).tenant.id;
    },
    async move(id, ...changes) {
      for (const change of changes)
        await db.transaction().execute((tx) => changeStatus({ ...ctx, db: tx }, id, change));
    },
    async settle(id, run = () => converge(id)) {
      for (let runs = 0; await takeJob(db, id); runs++) {
        assert.ok(runs < ENOUGH_RUNS, "the jobs of a tenant come to an end");
        while (await wasCutOff(run)) assert.ok(runs++ < ENOUGH_RUNS, "a repeated job gets through");
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

async function takeJob(db: Db, id: TenantId): Promise<boolean> {
  const { rows } = await sql`
    SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs
    WHERE key = ${`converge:${id}`} HAVING count(*) > 0`.execute(db);
  return rows.length > 0;
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
