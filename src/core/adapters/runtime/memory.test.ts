import assert from "node:assert/strict";
import { test } from "node:test";
import { UpstreamError } from "../../platform/errors.ts";
import type { StampId } from "../../platform/ids.ts";
import { runtimeDriverContract, someTenantId } from "./contract.ts";
import { createMemoryDriver } from "./memory.ts";
import type { RuntimeSpec } from "./runtime-driver.ts";

runtimeDriverContract("memory", async () => {
  const driver = createMemoryDriver();
  return {
    driver,
    another: async () => driver,
    spec: memorySpec,
    image: (spec) => spec.image,
    running: async (tenantId) => ((await driver.inspect(tenantId)).state === "running" ? 1 : 0),
  };
});

test("a runtime is starting until the test says that it is healthy", async () => {
  const driver = createMemoryDriver({ healthy: false, address: () => "http://127.0.0.1:40123" });
  const tenantId = someTenantId();
  assert.equal((await driver.ensure(memorySpec(tenantId, 1))).state, "starting");
  driver.setHealthy(tenantId, true);
  assert.equal((await driver.inspect(tenantId)).state, "running");
  assert.equal((await driver.inspect(tenantId)).address, "http://127.0.0.1:40123");
});

test("a failure asked for is thrown once and changes nothing", async () => {
  const driver = createMemoryDriver();
  const spec = memorySpec(someTenantId(), 1);
  const error = new UpstreamError("down", "The platform is down", { service: "runtime", retryable: true });
  driver.failNext("ensure", error);
  await assert.rejects(driver.ensure(spec), error);
  assert.equal((await driver.inspect(spec.tenantId)).state, "absent");
  assert.equal((await driver.ensure(spec)).state, "running");
});

function memorySpec(tenantId: RuntimeSpec["tenantId"], version: number): RuntimeSpec {
  const image = `openclaw:${version}`;
  return {
    tenantId,
    stampId: "default" as StampId,
    slug: "acme",
    image,
    config: {},
    env: {},
    secrets: {},
    cpu: 1,
    memoryMiB: 2_048,
    hash: `hash-${version}`,
  };
}
