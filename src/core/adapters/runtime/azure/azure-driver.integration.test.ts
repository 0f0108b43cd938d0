import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { someTenantId, runtimeDriverContract, untilState } from "../contract.ts";
import { runtimeName } from "./names.ts";
import { setUpAzure } from "./test-setup.ts";

runtimeDriverContract("azure", async (t: TestContext) => {
  const bench = await setUpAzure(t);
  const open = () => {
    const driver = bench.openDriver();
    return {
      ...driver,
      ensure: async (...[spec, call]: Parameters<typeof driver.ensure>) => {
        await bench.seedSecrets(spec.tenantId);
        return driver.ensure(spec, call);
      },
    };
  };
  return {
    driver: open(),
    another: async () => open(),
    spec: bench.spec,
    image: (spec) => spec.image,
    running: async (tenantId) =>
      Object.entries(bench.arm.state.replicas())
        .filter(([name]) => name.startsWith(`${runtimeName(tenantId)}/`))
        .reduce((sum, [, replicas]) => sum + replicas, 0),
  };
});

test("what Azure is sent is valid against its public description", async (t) => {
  const { openDriver, seedSecrets, spec, arm } = await setUpAzure(t);
  const driver = openDriver();
  const tenantId = someTenantId();
  await seedSecrets(tenantId);
  await driver.ensure(spec(tenantId, 1));
  await untilState(driver, tenantId, "running");
  await driver.ensure(spec(tenantId, 2));
  await driver.sleep(tenantId);
  await driver.wake(tenantId);
  await driver.list();
  await driver.erase(tenantId);
  assert.deepEqual(arm.violations, []);
  assert.deepEqual(arm.state.apps(), []);
});
