import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import test from "node:test";
import { sql } from "kysely";
import { runtimeName } from "../src/core/adapters/runtime/azure/names.ts";
import { until } from "../src/core/adapters/runtime/contract.ts";
import {
  deprovisionTenant,
  provisionTenant,
  restoreTenant,
  resumeTenant,
  suspendTenant,
} from "../src/core/orchestrator/orchestrator.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import { ConflictError } from "../src/core/platform/errors.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { createTenant, listTenants, type TenantsContext, updateTenant } from "../src/core/tenants/tenants.ts";
import type { ArmFault } from "../src/core/testing/fakes/azure/arm-server.ts";
import { type AzureStage, openAzureStage } from "./azure-stage.ts";

/** How often a daemon is killed; more by OPENCLAW_TEST_KILLS. */
const KILLS = Number(process.env["OPENCLAW_TEST_KILLS"] ?? 3);
const TENANTS = 8;
const WAIT_MS = 240_000;
/** What every twentieth call or so meets. */
const FAULTS: readonly ArmFault[] = [
  { status: 409, code: "ContainerAppOperationInProgress", envelope: false },
  { status: 500, code: "InternalServerError" },
  { status: 503, code: "ServiceUnavailable" },
  "reset",
  "lost",
  "operation-failed",
];

/** Something that an operator, or a payment, may do at any time; what is not allowed just now is refused. */
async function actAtRandom(ctx: TenantsContext, id: TenantId): Promise<void> {
  const acts = [
    () => provisionTenant(ctx, id, "chaos"),
    () => suspendTenant(ctx, id, "chaos"),
    () => resumeTenant(ctx, id, "chaos"),
    () => deprovisionTenant(ctx, id, "chaos"),
    () => restoreTenant(ctx, id, { reason: "chaos", unpaid: false }),
    () => updateTenant(ctx, id, { tier: randomInt(2) === 0 ? "basic" : "plus" }),
  ];
  try {
    await acts[randomInt(acts.length)]?.();
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
  }
}

/** Those of a dead daemon are given to others after a while; here, at once. */
async function passSilence({ database }: AzureStage): Promise<void> {
  await sql`UPDATE daemons SET seen_at = seen_at - interval '1 minute'`.execute(database.db);
  await sql`UPDATE graphile_worker._private_jobs SET locked_at = locked_at - interval '1 minute'`.execute(database.db);
}

/** No job waits, other than for the time at which an idle runtime may sleep. */
async function isSettled({ database }: AzureStage): Promise<true | undefined> {
  // Nobody waits out a backoff, nor what Azure asked for.
  await sql`SELECT graphile_worker.reschedule_jobs(array_agg(id), run_at => now()) FROM graphile_worker.jobs
    WHERE task_identifier = 'tenant.converge' AND run_at > now() + interval '2 seconds' HAVING count(*) > 0`.execute(
    database.db,
  );
  const { rows } = await sql`SELECT id FROM graphile_worker.jobs
    WHERE task_identifier LIKE 'tenant.%' AND attempts < max_attempts`.execute(database.db);
  const passing = await listTenants(database.db, { status: ["provisioning", "deprovisioning"] });
  return rows.length === 0 && passing.length === 0 ? true : undefined;
}

/** Why somebody is not settled. */
async function whatWaits({ database }: AzureStage): Promise<string> {
  const { rows } = await sql`
    SELECT slug, status, status_reason, state, runtimes.reason, runtimes.attempts, task_identifier, run_at, locked_by, last_error
    FROM tenants LEFT JOIN runtimes ON runtimes.tenant_id = tenants.id
    LEFT JOIN graphile_worker.jobs ON key LIKE '%' || tenants.id
    WHERE jobs.id IS NOT NULL OR status IN ('provisioning', 'deprovisioning')`.execute(database.db);
  return JSON.stringify(rows, null, 1);
}

test(
  `daemons killed ${KILLS} times over an Azure that fails at random, while tenants come and go: each ends as its status says, nothing is left over (F37–F39, F43–F46, F51, F97)`,
  {
    timeout: KILLS > 10 ? 3_600_000 : 300_000,
  },
  async (t) => {
    const stage = await openAzureStage(t, { env: { OPENCLAW_INTERNAL_URL: "http://gateway.invalid:9090" } });
    const { arm, database, vaults } = stage;
    const ctx: TenantsContext = { db: database.db, clock: systemClock, actor: { name: "chaos" } };
    const ids: TenantId[] = [];
    for (let nth = 0; nth < TENANTS; nth += 1) {
      const slug = `chaos-${nth}`;
      const { tenant } = await createTenant(ctx, { slug, email: `${slug}@example.com`, billingExempt: true });
      await provisionTenant(ctx, tenant.id, "chaos");
      ids.push(tenant.id);
    }
    Object.assign(arm.settle, { operationPolls: 1, deletePolls: 1, zeroReplicaReads: 1, rolePropagation: 1 });
    let daemon = await stage.startDaemon();
    for (let kills = 0; kills < KILLS; kills += 1) {
      const enough = arm.calls.length + randomInt(30, 120);
      const stopping = performance.now() + 15_000;
      while (arm.calls.length < enough && performance.now() < stopping) {
        const fault = FAULTS[randomInt(FAULTS.length)];
        if (fault !== undefined) arm.failNth(randomInt(1, 20), fault);
        await actAtRandom(ctx, ids[randomInt(ids.length)] ?? assert.fail());
        const seen = arm.calls.length;
        await until(
          async () => (arm.calls.length > seen + 5 || performance.now() > stopping ? true : undefined),
          "calls",
        );
      }
      daemon.child.kill("SIGKILL");
      await daemon.exit;
      await passSilence(stage);
      daemon = await stage.startDaemon();
    }
    arm.clearFaults();
    await until(() => isSettled(stage), "everybody to be settled", WAIT_MS).catch(async (error: unknown) => {
      throw new Error(await whatWaits(stage), { cause: error });
    });

    const tenants = await listTenants(database.db);
    const living = tenants.filter(({ status }) => status === "active" || status === "suspended").map(({ id }) => id);
    t.diagnostic(`${arm.calls.length} calls; ${tenants.map(({ status }) => status).join(" ")}`);
    const names = new Set(living.map(runtimeName));
    const apps = arm.state.apps();
    const running = new Map(apps.map((app) => [app.name, app.revisions.reduce((sum, one) => sum + one.running, 0)]));
    for (const { id, slug, status } of tenants) {
      const replicas = running.get(runtimeName(id));
      if (status === "active") assert.equal(replicas, 1, `${slug} is active`);
      if (status === "suspended") assert.equal(replicas ?? 0, 0, `${slug} is suspended`);
      // Given up, or never begun: whatever there is sleeps.
      if (status === "pending") assert.equal(replicas ?? 0, 0, `${slug} is pending`);
      if (status === "deleted") assert.equal(replicas, undefined, `${slug} is deleted`);
    }
    const kept = new Set(tenants.filter(({ status }) => status !== "deleted").map(({ id }) => runtimeName(id)));
    for (const { name } of arm.state.identities()) assert.ok(name === "openclaw-pull" || kept.has(name), name);
    const principals = new Set(arm.state.identities().map(({ principalId }) => principalId));
    for (const { principalId, scope } of arm.state.roleAssignments())
      assert.ok(principals.has(principalId), `a role is left on ${scope}`);
    for (const secret of Object.keys(vaults[0]?.values() ?? {}))
      assert.ok(
        tenants.some(({ id, status }) => status !== "deleted" && secret.includes(id)),
        secret,
      );
    assert.ok([...names].every((name) => running.has(name)));
    assert.deepEqual(arm.violations, []);
  },
);
