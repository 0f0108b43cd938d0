import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test, type TestContext } from "node:test";
import { sql } from "kysely";
import { runtimeName } from "../src/core/adapters/runtime/azure/names.ts";
import { type AzureBench, setUpAzure } from "../src/core/adapters/runtime/azure/test-setup.ts";
import { until } from "../src/core/adapters/runtime/contract.ts";
import type { RuntimeDriver } from "../src/core/adapters/runtime/runtime-driver.ts";
import { TENANT_SECRETS, tenantSecretName } from "../src/core/adapters/vault/vault.ts";
import { rotateKeys } from "../src/core/orchestrator/orchestrator.ts";
import type { Bench } from "../src/core/orchestrator/test-setup.ts";
import { setUpOrchestrator } from "../src/core/orchestrator/test-setup.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { findTenantById, type StatusChange } from "../src/core/tenants/tenants.ts";
import type { ArmFault } from "../src/core/testing/fakes/azure/arm-server.ts";

// Short enough for a call that is never answered not to take long, long enough for a busy machine.
const REQUEST_MS = 1_000;
/** The process is killed while the call is on its way, or when it has taken effect: in either case it never hears of it. */
type Kill = "killed before" | "killed after";
type Trouble = { name: string; fault: ArmFault } | { name: Kill };

const TROUBLES: readonly Trouble[] = [
  { name: "429", fault: { status: 429, code: "TooManyRequests" } },
  { name: "429 with Retry-After", fault: { status: 429, code: "TooManyRequests", retryAfter: 0 } },
  { name: "409", fault: { status: 409, code: "ContainerAppOperationInProgress", envelope: false } },
  { name: "500", fault: { status: 500, code: "InternalServerError" } },
  { name: "time-out", fault: "hang" },
  { name: "connection reset", fault: "reset" },
  { name: "answer lost", fault: "lost" },
  { name: "operation failed", fault: "operation-failed" },
  { name: "killed before" },
  { name: "killed after" },
];

type Stage = AzureBench & { bench: Bench; driver: RuntimeDriver };

async function openStage(t: TestContext): Promise<Stage> {
  const azure = await setUpAzure(t);
  const driver = azure.openDriver({ requestMs: REQUEST_MS });
  const bench = await setUpOrchestrator(t, azure.database.db, { runtimes: driver, vault: azure.vault });
  return { ...azure, bench, driver };
}

/** The tenant's jobs to their end, in the trouble that meets the `nth` call to Azure from now. */
async function settleIn(stage: Stage, id: TenantId, nth: number, trouble: Trouble): Promise<void> {
  const { arm, bench } = stage;
  if ("fault" in trouble) {
    arm.failNth(nth, trouble.fault);
    await bench.settle(id, async (job) => {
      await passTime(stage);
      await (job === "converge" ? bench.converge(id) : bench.rotate(id));
    });
  } else await settleKilled(stage, id, nth, trouble.name);
  arm.clearFaults();
}

/** What Azure asked for when it throttled is over. */
async function passTime({ database }: Stage): Promise<void> {
  await sql`DELETE FROM arm_budgets`.execute(database.db);
}

async function settleKilled(stage: Stage, id: TenantId, nth: number, kill: Kill): Promise<void> {
  const { arm, bench } = stage;
  const doomed = stage.openDriver({ requestMs: 600_000 });
  const ctx = { ...bench.ctx, runtimes: doomed };
  const seen = arm.calls.length;
  arm.failNth(nth, kill === "killed before" ? "hang" : "mute");
  const isMet = () => arm.calls.slice(seen).some(({ fault }) => fault === "hang" || fault === "mute");
  let isOver = false;
  // What comes of it once the servers close concerns nobody any more.
  const run = bench
    .settle(id, (job) => (job === "converge" ? bench.converge(id, ctx) : bench.rotate(id, ctx)))
    .then(
      () => (isOver = true),
      () => (isOver = true),
    );
  await Promise.race([run, until(async () => (isMet() ? true : undefined), "the call at which it dies")]);
  if (isOver) return;
  // With the process, its connections are gone, and so its locks; its job goes to somebody else.
  await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'openclaw-azure'`.execute(
    stage.database.db,
  );
  await bench.converge(id);
  await bench.settle(id);
}

async function assertActive(stage: Stage, id: TenantId): Promise<void> {
  const { arm, bench, vaults } = stage;
  const name = runtimeName(id);
  assert.equal((await findTenantById(bench.ctx.db, id))?.status, "active");
  const [app, ...more] = arm.state.apps().filter((one) => one.name === name);
  assert.ok(app !== undefined && more.length === 0, "one container app");
  const running = Object.entries(arm.state.replicas()).filter(
    ([key, count]) => key.startsWith(`${name}/`) && count > 0,
  );
  assert.deepEqual(
    running.map(([, count]) => count),
    [1],
    "one replica",
  );
  const identities = arm.state.identities().filter((one) => one.name === name);
  assert.equal(identities.length, 1, "one identity");
  const roles = arm.state.roleAssignments().filter(({ principalId }) => principalId === identities[0]?.principalId);
  const { keyGeneration = 0 } = (await findTenantById(bench.ctx.db, id)) ?? {};
  const wanted = TENANT_SECRETS.map((secret) => tenantSecretName(id, secret, keyGeneration));
  const scopes = roles.map(({ scope }) => scope.slice(scope.lastIndexOf("/") + 1).toLowerCase());
  assert.deepEqual(scopes.toSorted(), wanted.toSorted(), "the right to its own secrets, once each");
  // The runtime has the keys that the vault has, and the gateways know them: there is no second key.
  const values = vaults[0]?.values() ?? {};
  assert.deepEqual(
    Object.keys(values)
      .filter((secret) => secret.includes(id))
      .toSorted(),
    wanted.toSorted(),
  );
  for (const [secret, value] of Object.entries(app.secrets))
    if (!secret.startsWith("config-"))
      assert.ok(Object.values(values).includes(value), `${secret} is that of the vault`);
  const hashes = await bench.ctx.db.selectFrom("runtimeCredentials").selectAll().where("tenantId", "=", id).execute();
  for (const { kind, sha256 } of hashes) {
    const value = values[tenantSecretName(id, kind, keyGeneration)] ?? "";
    assert.deepEqual(sha256, createHash("sha256").update(value).digest());
  }
  assert.equal(arm.state.shares().length, 1, "one share");
  assert.deepEqual(arm.violations, []);
}

async function assertDeleted(stage: Stage, id: TenantId): Promise<void> {
  const { arm, bench, vaults } = stage;
  const name = runtimeName(id);
  assert.equal((await findTenantById(bench.ctx.db, id))?.status, "deleted");
  assert.deepEqual(
    arm.state.apps().filter((one) => one.name === name),
    [],
  );
  assert.deepEqual(
    arm.state.identities().filter((one) => one.name === name),
    [],
  );
  assert.deepEqual(
    arm.state.roleAssignments().filter(({ scope }) => scope.includes(id)),
    [],
  );
  assert.deepEqual(
    Object.keys(vaults[0]?.values() ?? {}).filter((secret) => secret.includes(id)),
    [],
  );
  assert.deepEqual(arm.violations, []);
}

const provision: StatusChange = { to: "provisioning", reason: "paid" };
const deprovision: StatusChange = { to: "deprovisioning", reason: "ended" };

/** How many calls it takes when all goes well, on a stage where nothing was made yet. */
async function countCalls(stage: Stage, id: TenantId, begin: () => Promise<unknown>): Promise<number> {
  const before = stage.arm.calls.length;
  await begin();
  await stage.bench.settle(id);
  return stage.arm.calls.length - before;
}

/** All of them, or every so many, another part with each trouble: `OPENCLAW_TEST_FAULTS=all`. */
const STRIDE = process.env["OPENCLAW_TEST_FAULTS"] === "all" ? 1 : 6;

describe("every call of a provisioning, of a rotation of keys and of a removal", { concurrency: 3 }, () => {
  for (const [index, trouble] of TROUBLES.entries()) {
    test(`in turn meets ${trouble.name}: the tenant ends active, or deleted, with no orphan and no second key (F29, F37, F38, F43–F46, F49–F51, F97)`, async (t) => {
      const stage = await openStage(t);
      const { bench } = stage;
      const first = await bench.newTenant({ billingExempt: true });
      await countCalls(stage, first, () => bench.move(first, provision));
      const second = await bench.newTenant({ billingExempt: true });
      const making = await countCalls(stage, second, () => bench.move(second, provision));
      await assertActive(stage, second);
      const rotating = await countCalls(stage, second, () => rotateKeys(bench.ctx, second, "test"));
      await assertActive(stage, second);
      const removing = await countCalls(stage, second, () => bench.move(second, deprovision));
      await assertDeleted(stage, second);
      assert.ok(making > removing && removing >= 8, `${making} and ${removing} calls`);
      for (let nth = 1 + (index % STRIDE); nth <= Math.max(making, rotating); nth += STRIDE) {
        const id = await bench.newTenant({ billingExempt: true });
        await bench.move(id, provision);
        await settleIn(stage, id, 1 + ((nth - 1) % making), trouble);
        await assertActive(stage, id).catch((error: unknown) => {
          throw new Error(`making, call ${nth} of ${making}`, { cause: error });
        });
        await rotateKeys(bench.ctx, id, "test");
        await settleIn(stage, id, 1 + ((nth - 1) % rotating), trouble);
        await assertActive(stage, id).catch((error: unknown) => {
          throw new Error(`rotating, call ${nth} of ${rotating}`, { cause: error });
        });
        const removal = 1 + ((nth - 1) % removing);
        await bench.move(id, deprovision);
        await settleIn(stage, id, removal, trouble);
        await assertDeleted(stage, id).catch((error: unknown) => {
          throw new Error(`removing, call ${removal} of ${removing}`, { cause: error });
        });
      }
    });
  }
});
