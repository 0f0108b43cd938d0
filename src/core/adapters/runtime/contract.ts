import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { NotFoundError, TimeoutError } from "../../platform/errors.ts";
import { parseTenantId, type TenantId } from "../../platform/ids.ts";
import type { ObservedRuntime, RuntimeDriver, RuntimeSpec, RuntimeState } from "./runtime-driver.ts";

const POLL_MS = 20;
const PATIENCE_MS = 20_000;

/** A driver over nothing yet, with what the suite needs to look behind it. Whatever it holds is released through the test's `after`. */
export type RuntimeDriverSubject = {
  driver: RuntimeDriver;
  /** Another instance over the same runtimes, as after a restart of the daemon, or beside it. */
  another(): Promise<RuntimeDriver>;
  /** A spec that this driver can run; another `version` gives another hash. */
  spec(tenantId: TenantId, version: number): RuntimeSpec;
  /** What is observed to run once that spec is in force. */
  image(spec: RuntimeSpec): string;
  /** How many runtimes really run for the tenant. */
  running(tenantId: TenantId): Promise<number>;
};

/** What every runtime driver does. */
export function runtimeDriverContract(name: string, setUp: (t: TestContext) => Promise<RuntimeDriverSubject>): void {
  describe(`runtime driver: ${name}`, () => {
    test("what was never made is absent, sleeps without complaint and can't be woken", async (t) => {
      const { driver } = await setUp(t);
      const tenantId = someTenantId();
      assert.equal((await driver.inspect(tenantId)).state, "absent");
      assert.equal((await driver.sleep(tenantId)).state, "absent");
      await assert.rejects(driver.wake(tenantId), NotFoundError);
      assert.deepEqual(await driver.list(), []);
    });

    test("a runtime that is ensured becomes healthy at an address; ensuring it again leaves one runtime (F45)", async (t) => {
      const { driver, spec, image, running } = await setUp(t);
      const tenantId = someTenantId();
      await driver.ensure(spec(tenantId, 1));
      const first = await untilState(driver, tenantId, "running");
      assert.equal(first.specHash, spec(tenantId, 1).hash);
      assert.equal(first.image, image(spec(tenantId, 1)));
      assert.match(first.address ?? "", /^https?:\/\/[^/]+$/);
      assert.deepEqual(await driver.ensure(spec(tenantId, 1)), first);
      assert.equal(await running(tenantId), 1);
    });

    test("another hash replaces the runtime", async (t) => {
      const { driver, spec, running } = await setUp(t);
      const tenantId = someTenantId();
      await driver.ensure(spec(tenantId, 1));
      await untilState(driver, tenantId, "running");
      await driver.ensure(spec(tenantId, 2));
      const second = await untilState(driver, tenantId, "running");
      assert.equal(second.specHash, spec(tenantId, 2).hash);
      assert.equal(await running(tenantId), 1);
    });

    test("sleeping twice and waking twice is fine, and what is in force survives", async (t) => {
      const { driver, spec, running } = await setUp(t);
      const tenantId = someTenantId();
      await driver.ensure(spec(tenantId, 1));
      await untilState(driver, tenantId, "running");
      await driver.sleep(tenantId);
      const asleep = await driver.sleep(tenantId);
      assert.equal(asleep.state, "asleep");
      assert.equal(asleep.address, undefined);
      assert.equal(asleep.specHash, spec(tenantId, 1).hash);
      assert.equal(await running(tenantId), 0);
      await driver.wake(tenantId);
      await driver.wake(tenantId);
      const awake = await untilState(driver, tenantId, "running");
      assert.equal(awake.specHash, spec(tenantId, 1).hash);
      assert.equal(await running(tenantId), 1);
    });

    test("an asleep runtime takes a new spec over without being woken (F39, F40)", async (t) => {
      const { driver, spec, running } = await setUp(t);
      const tenantId = someTenantId();
      await driver.ensure(spec(tenantId, 1));
      await driver.sleep(tenantId);
      const moved = await driver.ensure(spec(tenantId, 2));
      assert.equal(moved.state, "asleep");
      assert.equal(moved.specHash, spec(tenantId, 2).hash);
      assert.equal(await running(tenantId), 0);
      await driver.wake(tenantId);
      assert.equal((await untilState(driver, tenantId, "running")).specHash, spec(tenantId, 2).hash);
    });

    test("the list holds every runtime, awake or asleep, and no other", async (t) => {
      const { driver, spec } = await setUp(t);
      const [one, two, gone] = [someTenantId(), someTenantId(), someTenantId()];
      for (const tenantId of [one, two, gone]) await driver.ensure(spec(tenantId, 1));
      await driver.sleep(two);
      await driver.remove(gone);
      await untilState(driver, one, "running");
      const states = new Map((await driver.list()).map((runtime) => [runtime.tenantId, runtime.state]));
      assert.equal(states.size, 2);
      assert.equal(states.get(one), "running");
      assert.equal(states.get(two), "asleep");
    });

    test("a removed runtime is gone, removing twice is fine, and it can be made again (F43, F97)", async (t) => {
      const { driver, spec, running } = await setUp(t);
      const tenantId = someTenantId();
      await driver.ensure(spec(tenantId, 1));
      await driver.remove(tenantId);
      await driver.remove(tenantId);
      assert.equal((await driver.inspect(tenantId)).state, "absent");
      assert.equal(await running(tenantId), 0);
      await assert.rejects(driver.wake(tenantId), NotFoundError);
      await driver.ensure(spec(tenantId, 1));
      await untilState(driver, tenantId, "running");
    });

    test("erasing takes a runtime, awake or removed, with all that was kept; twice is fine, and it can be made again", async (t) => {
      const { driver, spec, running } = await setUp(t);
      const tenantId = someTenantId();
      await driver.erase(tenantId);
      await driver.ensure(spec(tenantId, 1));
      await untilState(driver, tenantId, "running");
      await driver.erase(tenantId);
      await driver.erase(tenantId);
      assert.equal((await driver.inspect(tenantId)).state, "absent");
      assert.equal(await running(tenantId), 0);
      await driver.ensure(spec(tenantId, 1));
      await untilState(driver, tenantId, "running");
      await driver.remove(tenantId);
      await driver.erase(tenantId);
      assert.deepEqual(await driver.list(), []);
    });

    test("ensuring at once, from two instances, makes one runtime", async (t) => {
      const { driver, another, spec, running } = await setUp(t);
      const tenantId = someTenantId();
      const other = await another();
      await Promise.all([driver, other, driver, other].map((each) => each.ensure(spec(tenantId, 1))));
      await untilState(other, tenantId, "running");
      assert.equal(await running(tenantId), 1);
    });

    test("ensuring and removing at once ends in one or the other, never in between", async (t) => {
      const { driver, another, spec, running } = await setUp(t);
      const tenantId = someTenantId();
      const other = await another();
      await Promise.all([driver.ensure(spec(tenantId, 1)), other.remove(tenantId), driver.ensure(spec(tenantId, 2))]);
      const { state } = await driver.inspect(tenantId);
      assert.equal(await running(tenantId), state === "absent" ? 0 : 1);
      if (state !== "absent") await untilState(driver, tenantId, "running");
      await driver.remove(tenantId);
      assert.equal(await running(tenantId), 0);
    });

    test("runtimes go on without their driver, and a new instance takes them over", async (t) => {
      const { driver, another, spec, running } = await setUp(t);
      const [awake, asleep] = [someTenantId(), someTenantId()];
      await driver.ensure(spec(awake, 1));
      await driver.ensure(spec(asleep, 1));
      await driver.sleep(asleep);
      const before = await untilState(driver, awake, "running");
      await driver.close();
      const next = await another();
      assert.deepEqual(await next.inspect(awake), before);
      assert.deepEqual(await next.ensure(spec(awake, 1)), before);
      assert.equal(await running(awake), 1);
      assert.equal((await next.inspect(asleep)).state, "asleep");
      await next.wake(asleep);
      await untilState(next, asleep, "running");
    });
  });
}

export function someTenantId(): TenantId {
  const tenantId = parseTenantId(randomUUID());
  assert.ok(tenantId);
  return tenantId;
}

/** Waits until the runtime is seen in `state`. */
export async function untilState(
  driver: RuntimeDriver,
  tenantId: TenantId,
  state: RuntimeState,
): Promise<ObservedRuntime> {
  return until(async () => {
    const observed = await driver.inspect(tenantId);
    return observed.state === state ? observed : undefined;
  }, `runtime ${state}`);
}

/** The first result that isn't undefined. */
export async function until<T>(
  look: () => Promise<T | undefined>,
  what: string,
  patienceMs: number = PATIENCE_MS,
): Promise<T> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const seen = await look();
    if (seen !== undefined) return seen;
    if (performance.now() > deadline) throw new TimeoutError("test_wait", `Not seen in time: ${what}`);
    await delay(POLL_MS);
  }
}
