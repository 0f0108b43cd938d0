import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { sql } from "kysely";
import type { DriverCall, RuntimeSpec, Urgency } from "../../adapters/runtime/runtime-driver.ts";
import type { Db } from "../../platform/db.ts";
import type { RolloutId, TenantId } from "../../platform/ids.ts";
import { createTenant } from "../../tenants/tenants.ts";
import { convergeTenant, type OrchestratorContext } from "../converge.ts";
import { type Bench, FLEET, setUpOrchestrator } from "../test-setup.ts";
import { advanceRollout, sweepRollouts } from "./advance.ts";
import { type FleetContext, noteEnvironment } from "./settings.ts";
import { readProgress, type RolloutProgress } from "./progress.ts";
import type { RolloutWish } from "./rollouts.ts";

export const OLD = FLEET.image;
export const NEW = "ghcr.io/openclaw/openclaw:2026.10.1";

export const WISH: RolloutWish = {
  change: { image: NEW },
  selector: {},
  force: false,
  cohorts: ["1", "5%", "25%", "100%"],
  parallel: 10,
  maxFailures: 3,
  deadlineSeconds: 30,
};

export type Stage = Bench & {
  ctx: OrchestratorContext & FleetContext;
  /** Those whose runtimes don't come up with an image: it is as if they never answered, or their platform refused it. */
  spoil(tenantId: TenantId, image: string, how?: "silent" | "refused"): void;
  /** What the driver was asked for, in order. */
  ensured: { image: string; urgency: Urgency | undefined }[];
  /** Active tenants, by slug. */
  newTenants(count: number): Promise<TenantId[]>;
  /** Runs all jobs that wait, round by round and a second each, a sweep a minute, until `until` holds or none is left. */
  run(until?: (progress: RolloutProgress) => boolean): Promise<void>;
  progress(id?: RolloutId): Promise<RolloutProgress>;
};

const ENOUGH_ROUNDS = 300;
const AT_ONCE = 8;

/** A fleet over `db` whose daemon has said what its environment says. */
export async function setUpFleet(t: TestContext, db: Db): Promise<Stage> {
  const bench = await setUpOrchestrator(t, db);
  const bad = new Map<string, "silent" | "refused">();
  const ensured: Stage["ensured"] = [];
  const { driver, clock } = bench;
  const ctx = {
    ...bench.ctx,
    environment: { image: FLEET.image, modelsByTier: FLEET.modelsByTier },
    runtimes: {
      ...driver,
      async ensure(spec: RuntimeSpec, call?: DriverCall) {
        const how = bad.get(`${spec.tenantId} ${spec.image}`);
        if (how === "refused") throw new Error(`no such image: ${spec.image}`);
        ensured.push({ image: spec.image, urgency: call?.urgency });
        driver.setHealthy(spec.tenantId, how === undefined);
        return driver.ensure(spec, call);
      },
    },
  };
  await noteEnvironment(ctx);
  const signal = new AbortController().signal;

  async function newTenant(slug: string): Promise<TenantId> {
    const input = { slug, email: `${slug}@example.com`, trialDays: 14 };
    const { id } = (await createTenant(ctx, input)).tenant;
    await bench.settle(id, () => convergeTenant(ctx, id, signal));
    return id;
  }

  const progress = (id?: RolloutId) => readProgress(db, id, clock.now());
  return {
    ...bench,
    ctx,
    ensured,
    progress,
    spoil: (tenantId, image, how = "silent") => void bad.set(`${tenantId} ${image}`, how),
    async newTenants(count) {
      const slugs = Array.from({ length: count }, (_, index) => `tenant-${String(index + 1).padStart(3, "0")}`);
      return inPortions(slugs, newTenant);
    },
    async run(until = () => false) {
      for (let round = 0; ; round++) {
        assert.ok(round < ENOUGH_ROUNDS, "the jobs come to an end");
        if (until(await progress())) return;
        const jobs = await takeJobs(db);
        if (jobs.length === 0) return;
        await inPortions(jobs, ({ tenantId, rolloutId }) =>
          rolloutId === null ? convergeTenant(ctx, tenantId, signal) : advanceRollout(ctx, rolloutId),
        );
        clock.advance(1_000);
        if (round % 60 === 59) await sweepRollouts(ctx);
      }
    },
  };
}

async function inPortions<Item, Result>(
  items: readonly Item[],
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (let at = 0; at < items.length; at += AT_ONCE)
    results.push(...(await Promise.all(items.slice(at, at + AT_ONCE).map(work))));
  return results;
}

/** Everything that waits, at whatever time it is due. */
async function takeJobs(db: Db): Promise<{ tenantId: TenantId; rolloutId: RolloutId | null }[]> {
  const { rows } = await sql<{ payload: { tenantId: TenantId; rolloutId?: RolloutId } }>`
    SELECT payload FROM graphile_worker._private_jobs ORDER BY priority, id`.execute(db);
  await sql`SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs HAVING count(*) > 0`.execute(
    db,
  );
  return rows.map(({ payload }) => ({ tenantId: payload.tenantId, rolloutId: payload.rolloutId ?? null }));
}
