import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { createTestDatabase } from "../../testing/database.ts";
import { getTenant } from "../../tenants/tenants.ts";
import { FLEET, setUpOrchestrator } from "../test-setup.ts";
import { noteEnvironment, readSettingsInForce, setSettings } from "./settings.ts";
import { startRollout } from "./rollouts.ts";
import { readModelsInUse } from "./targets.ts";
import { NEW, OLD, setUpFleet, type Stage, WISH } from "./test-setup.ts";

const EASY = { force: false };

async function withFleet(t: TestContext, play: (stage: Stage) => Promise<void>): Promise<void> {
  await using database = await createTestDatabase();
  await play(await setUpFleet(t, database.db));
}

test("while no operator has said anything, the environment counts, and a new one moves everybody", async (t) => {
  await withFleet(t, async (stage) => {
    const { ctx, driver } = stage;
    const [id] = await stage.newTenants(1);
    assert.ok(id);
    const settings = await readSettingsInForce(ctx);
    assert.deepEqual(
      [settings.source, settings.inForce.image, settings.release?.createdBy],
      ["daemons", OLD, "environment"],
    );
    const environment = { ...ctx.environment, image: NEW };
    assert.equal(await noteEnvironment({ ...ctx, environment }), undefined);
    await stage.converge(id, { ...ctx, fleet: { ...ctx.fleet, image: NEW } });
    assert.equal((await driver.inspect(id)).image, NEW);
    assert.equal((await readSettingsInForce(ctx)).inForce.image, NEW);
  });
});

test("once an operator says what new tenants get, those that run keep what they have, and the environment only is told so", async (t) => {
  await withFleet(t, async (stage) => {
    const { ctx, driver } = stage;
    const [old] = await stage.newTenants(1);
    assert.ok(old);
    const release = await setSettings(ctx, { image: NEW }, EASY);
    const newcomer = await stage.newTenant();
    for (const id of [old, newcomer]) await stage.settle(id, () => stage.converge(id, ctx));
    await stage.converge(old, { ...ctx, fleet: { ...ctx.fleet, image: "openclaw:3" } });
    assert.deepEqual([(await driver.inspect(old)).image, (await driver.inspect(newcomer)).image], [OLD, NEW]);
    const told = await noteEnvironment({ ...ctx, environment: { ...ctx.environment, image: "openclaw:3" } });
    assert.equal(told?.id, release.id);
    assert.equal(await noteEnvironment({ ...ctx, environment: release }), undefined);
    const { source, inForce, releases } = await readSettingsInForce(ctx);
    assert.deepEqual([source, inForce.image], ["operator", NEW]);
    assert.deepEqual(
      releases.map(({ image, tenants }) => [image, tenants]),
      [
        ["openclaw:3", 0],
        [NEW, 1],
        [OLD, 1],
      ],
    );
    assert.equal((await setSettings(ctx, { image: NEW }, EASY)).id, release.id);
  });
});

test("a tenant that was given up gets, when it is provisioned again, what new tenants get then", async (t) => {
  await withFleet(t, async (stage) => {
    const { ctx, clock } = stage;
    await setSettings(ctx, { image: NEW }, EASY);
    const id = await stage.newTenant();
    stage.spoil(id, NEW);
    await stage.converge(id, ctx);
    clock.advance(31 * 60_000);
    await stage.settle(id, () => stage.converge(id, ctx));
    assert.equal((await getTenant(ctx.db, id)).status, "pending");
    await setSettings(ctx, { image: "openclaw:3" }, EASY);
    await stage.move(id, { to: "provisioning", reason: "again" });
    await stage.settle(id, () => stage.converge(id, ctx));
    assert.equal((await getTenant(ctx.db, id)).status, "active");
    assert.equal((await stage.driver.inspect(id)).image, "openclaw:3");
  });
});

test("without a daemon that said what runtimes were made of, nothing is decided over their heads; without runtimes, this environment counts", async (t) => {
  await using database = await createTestDatabase();
  const bench = await setUpOrchestrator(t, database.db);
  const environment = { image: FLEET.image, modelsByTier: FLEET.modelsByTier };
  const ctx = { ...bench.ctx, environment };
  assert.deepEqual(
    [(await readSettingsInForce(ctx)).source, (await readSettingsInForce(ctx)).inForce.image],
    ["environment", OLD],
  );
  const id = await bench.newTenant();
  await bench.settle(id);
  await assert.rejects(setSettings(ctx, { image: NEW }, EASY), { code: "environment_unknown" });
  await bench.move(id, { to: "deprovisioning", reason: "ended" });
  await bench.settle(id);
  const release = await setSettings(ctx, { basic: ["gpt-5"] }, EASY);
  assert.deepEqual([release.image, release.modelsByTier], [OLD, { ...FLEET.modelsByTier, basic: ["gpt-5"] }]);
});

test("an image is to be named for good, and settings wait until a rollout is over", async (t) => {
  await withFleet(t, async (stage) => {
    const { ctx } = stage;
    await assert.rejects(setSettings(ctx, { image: "openclaw" }, EASY), { code: "image_not_immutable" });
    await assert.rejects(startRollout(ctx, { ...WISH, change: { image: "openclaw:latest" } }), {
      code: "image_not_immutable",
    });
    assert.equal((await readSettingsInForce(ctx)).source, "daemons");
    await startRollout(ctx, WISH);
    await assert.rejects(setSettings(ctx, { image: NEW }, EASY), { code: "rollout_under_way" });
    await stage.run();
    assert.equal((await stage.progress()).status, "finished");
  });
});

test("models may be asked for that some tenant's release has, or its last good one", async (t) => {
  await withFleet(t, async (stage) => {
    const { ctx } = stage;
    const used = () => readModelsInUse(ctx.db, { basic: ["of-the-environment"], plus: [] });
    assert.deepEqual(await used(), { basic: ["of-the-environment"], plus: [] });
    await stage.newTenants(1);
    await setSettings(ctx, { basic: ["gpt-5"] }, EASY);
    const { basic } = await used();
    assert.deepEqual(basic.toSorted(), ["claude-haiku-4-5", "gpt-5"]);
    await startRollout(ctx, { ...WISH, change: {} });
    await stage.run();
    assert.deepEqual((await used()).basic, ["gpt-5"]);
  });
});
