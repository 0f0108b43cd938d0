import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { runtimeName } from "../src/core/adapters/runtime/azure/names.ts";
import { setUpAzure } from "../src/core/adapters/runtime/azure/test-setup.ts";
import { TENANT_SECRETS, tenantSecretName } from "../src/core/adapters/vault/vault.ts";
import { findRuntime, resumeTenant, rotateKeys, suspendTenant } from "../src/core/orchestrator/orchestrator.ts";
import { setUpOrchestrator } from "../src/core/orchestrator/test-setup.ts";

/** A tenant whose runtime runs on the loopback Azure. */
async function openStage(t: TestContext) {
  const azure = await setUpAzure(t);
  const { arm, vaults } = azure;
  const bench = await setUpOrchestrator(t, azure.database.db, { runtimes: azure.openDriver(), vault: azure.vault });
  const id = await bench.newTenant({ billingExempt: true });
  await bench.move(id, { to: "provisioning", reason: "test" });
  await bench.settle(id);
  const name = runtimeName(id);
  return {
    arm,
    bench,
    id,
    running: () =>
      Object.entries(arm.state.replicas())
        .filter(([key]) => key.startsWith(`${name}/`))
        .reduce((sum, [, count]) => sum + count, 0),
    /** The names of its secrets in the vault, and of those that its identity may read; and whether it runs with these. */
    keys() {
      const [app] = arm.state.apps().filter((one) => one.name === name);
      const [identity] = arm.state.identities().filter((one) => one.name === name);
      const roles = arm.state.roleAssignments().filter(({ principalId }) => principalId === identity?.principalId);
      const values = vaults[0]?.values() ?? {};
      const given = Object.entries(app?.secrets ?? {}).filter(([secret]) => !secret.startsWith("config-"));
      return {
        vault: Object.keys(values).toSorted(),
        readable: roles.map(({ scope }) => scope.slice(scope.lastIndexOf("/") + 1).toLowerCase()).toSorted(),
        isGivenThem: given.length === 4 && given.every(([, value]) => Object.values(values).includes(value)),
      };
    },
    namesOf: (generation: number) =>
      TENANT_SECRETS.map((secret) => tenantSecretName(id, secret, generation)).toSorted(),
  };
}

test("on Azure a runtime goes on with its old keys until its identity can read the new ones, and then has these alone (F50, F75, F94, F98)", async (t) => {
  const { arm, bench, id, running, keys, namesOf } = await openStage(t);
  const before = namesOf(1);
  assert.deepEqual(keys(), { vault: before, readable: before, isGivenThem: true });
  arm.settle.rolePropagation = 4;
  await rotateKeys(bench.ctx, id, "test");
  let waits = 0;
  await bench.settle(id, async (job) => {
    await (job === "converge" ? bench.converge(id) : bench.rotate(id));
    assert.equal(running(), 1, "it is never missed");
    if (/roles|identity/i.test((await findRuntime(bench.ctx.db, id))?.reason ?? "")) waits += 1;
  });
  assert.ok(waits > 1, "it had to be waited for");
  const after = namesOf(2);
  assert.deepEqual(keys(), { vault: after, readable: after, isGivenThem: true });
  arm.reloadSecrets();
  assert.equal(running(), 1);
  assert.deepEqual(arm.violations, []);
});

test("on Azure a runtime that sleeps is not started by new keys, and wakes with them (F39, F98)", async (t) => {
  const { arm, bench, id, running, keys, namesOf } = await openStage(t);
  await suspendTenant(bench.ctx, id, "test");
  await bench.settle(id);
  await rotateKeys(bench.ctx, id, "test");
  await bench.settle(id, async (job) => {
    await (job === "converge" ? bench.converge(id) : bench.rotate(id));
    assert.equal(running(), 0);
  });
  const { vault, readable } = keys();
  assert.deepEqual([vault, readable], [namesOf(2), namesOf(2)]);
  arm.reloadSecrets();
  await resumeTenant(bench.ctx, id, "test");
  await bench.settle(id);
  assert.equal(running(), 1);
  assert.deepEqual(keys(), { vault: namesOf(2), readable: namesOf(2), isGivenThem: true });
  assert.deepEqual(arm.violations, []);
});
