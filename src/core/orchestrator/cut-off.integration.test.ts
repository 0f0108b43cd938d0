import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { tenantSecretPrefix } from "../adapters/vault/vault.ts";
import type { TenantId } from "../platform/ids.ts";
import { getTenant, listTenantEvents } from "../tenants/tenants.ts";
import { createTestDatabase } from "../testing/database.ts";
import {
  advanceRotation,
  convergeTenant,
  findCredentials,
  findKeys,
  findRuntime,
  type OrchestratorContext,
  rotateKeys,
} from "./orchestrator.ts";
import { type Bench, CutOff, setUpOrchestrator, type TenantJob } from "./test-setup.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

const suspend = { to: "suspended", suspendedBy: "billing", reason: "not paid" } as const;
const resume = { to: "active", reason: "paid" } as const;
const remove = { to: "deprovisioning", reason: "ended" } as const;

type Step = { from: (bench: Bench, id: TenantId) => Promise<void>; ends: string };

/** What a job does: how the tenant comes before it. */
const STEPS: Record<string, Step> = {
  provisioning: { from: async () => undefined, ends: "active/running" },
  suspending: {
    from: async (bench, id) => {
      await bench.settle(id);
      await bench.move(id, suspend);
    },
    ends: "suspended/asleep",
  },
  resuming: {
    from: async (bench, id) => {
      await bench.settle(id);
      await bench.move(id, suspend);
      await bench.settle(id);
      await bench.move(id, resume);
    },
    ends: "active/running",
  },
  deprovisioning: {
    from: async (bench, id) => {
      await bench.settle(id);
      await bench.move(id, remove);
    },
    ends: "deleted/absent",
  },
  rotating: {
    from: async (bench, id) => {
      await bench.settle(id);
      await rotateKeys(bench.ctx, id, "test");
    },
    ends: "active/running",
  },
  "rotating while suspended": {
    from: async (bench, id) => {
      await bench.settle(id);
      await bench.move(id, suspend);
      await bench.settle(id);
      await rotateKeys(bench.ctx, id, "test");
    },
    ends: "suspended/asleep",
  },
  "deprovisioning in the middle of a rotation": {
    from: async (bench, id) => {
      await bench.settle(id);
      await rotateKeys(bench.ctx, id, "test");
      await bench.rotate(id);
      await bench.move(id, remove);
    },
    ends: "deleted/absent",
  },
};

for (const [name, step] of Object.entries(STEPS)) {
  for (const moment of ["before", "after"] as const) {
    test(`${name}, cut off ${moment} any of its calls and run again, ends the same (F37, F51)`, async (t) => {
      const expected = await play(t, step, moment, Number.POSITIVE_INFINITY);
      assert.equal(expected.end, step.ends);
      assert.ok(expected.calls > 0);
      for (let call = 1; call <= expected.calls; call++) {
        const played = await play(t, step, moment, call);
        assert.deepEqual({ ...played, calls: 0 }, { ...expected, calls: 0 }, `cut off ${moment} call ${call}`);
      }
    });
  }

  test(`${name}, with any one of its calls failing, ends the same`, async (t) => {
    const expected = await play(t, step, "failing", Number.POSITIVE_INFINITY);
    for (let call = 1; call <= expected.calls; call++) {
      const played = await play(t, step, "failing", call);
      assert.deepEqual({ ...played, calls: 0 }, { ...expected, calls: 0 }, `call ${call} failed`);
    }
  });
}

/** Plays a step, in whose `call`-th call to the driver or the vault the process ends, or the outside fails. */
async function play(t: TestContext, step: Step, moment: "before" | "after" | "failing", call: number) {
  const bench = await setUpOrchestrator(t, database.db);
  const id = await bench.newTenant();
  await step.from(bench, id);
  let ended = new AbortController();
  const run = (job: TenantJob) => {
    ended = new AbortController();
    return job === "converge" ? convergeTenant(ctx, id, ended.signal) : advanceRotation(ctx, id, ended.signal);
  };
  let calls = 0;
  const through = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    calls++;
    if (calls !== call) return work();
    if (moment === "failing") throw new Error("the outside failed");
    if (moment === "after") await work();
    ended.abort();
    throw new CutOff();
  };
  const { driver, vault } = bench;
  const ctx: OrchestratorContext = {
    ...bench.ctx,
    runtimes: {
      ...driver,
      ensure: (...args) => through(() => driver.ensure(...args)),
      inspect: (...args) => through(() => driver.inspect(...args)),
      sleep: (...args) => through(() => driver.sleep(...args)),
      wake: (...args) => through(() => driver.wake(...args)),
      remove: (...args) => through(() => driver.remove(...args)),
    },
    vault: {
      get: (...args) => through(() => vault.get(...args)),
      getNewest: (...args) => through(() => vault.getNewest(...args)),
      getVersion: (...args) => through(() => vault.getVersion(...args)),
      set: (...args) => through(() => vault.set(...args)),
      delete: (...args) => through(() => vault.delete(...args)),
      list: (...args) => through(() => vault.list(...args)),
    },
  };
  await bench.settle(id, run);
  const tenant = await getTenant(ctx.db, id);
  const runtime = await findRuntime(ctx.db, id);
  const statuses = (await listTenantEvents(ctx.db, id, 50)).map(({ detail }) => JSON.stringify(detail));
  const keys = await findKeys(ctx, tenant);
  return {
    calls,
    keys: keys && { generation: keys.generation, rotation: keys.rotation },
    generations: [tenant.keyGeneration, runtime?.keyGeneration],
    end: `${tenant.status}/${(await driver.inspect(id)).state}`,
    asleep: tenant.hibernatedAt !== null,
    statuses: statuses.map((text) => text.replaceAll(tenant.slug, "slug")),
    recorded: runtime === undefined ? undefined : [runtime.state, runtime.attempts, runtime.reason],
    secrets: (await vault.list(tenantSecretPrefix(id))).map((secret) => secret.replace(id, "id")),
    credentials: (await findCredentials(ctx.db, id, "telegram-token")).length,
  };
}
