import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { sql } from "kysely";
import type { TenantId } from "../../platform/ids.ts";
import { changeStatus, getTenant, listTenantEvents } from "../../tenants/tenants.ts";
import { createTestDatabase } from "../../testing/database.ts";
import { restoreTenant, sleepTenant, sweepRuntimes, wakeTenant } from "../orchestrator.ts";
import { advanceRollout, sweepRollouts } from "./advance.ts";
import { readSettingsInForce } from "./settings.ts";
import { isSettled } from "./progress.ts";
import { abortRollout, pauseRollout, resumeRollout, startRollback, startRollout } from "./rollouts.ts";
import { NEW, OLD, setUpFleet, type Stage, WISH } from "./test-setup.ts";

type Play = Stage & { ids: TenantId[]; first: TenantId; images(): Promise<Map<TenantId, string>> };

async function withFleet(t: TestContext, count: number, play: (stage: Play) => Promise<void>): Promise<void> {
  await using database = await createTestDatabase();
  const stage = await setUpFleet(t, database.db);
  const ids = await stage.newTenants(count);
  const images = async () => new Map((await stage.driver.list()).map(({ tenantId, image }) => [tenantId, image]));
  stage.ensured.length = 0;
  await play({ ...stage, ids, first: ids[0] ?? assert.fail(), images });
}

const eventsOf = async ({ ctx }: Stage, id: TenantId, action: string) =>
  (await listTenantEvents(ctx.db, id, 100)).filter((event) => event.action === action);

async function suspend({ ctx }: Stage, id: TenantId): Promise<void> {
  const change = { to: "suspended", suspendedBy: "operator", reason: "test" } as const;
  await ctx.db.transaction().execute((tx) => changeStatus({ ...ctx, db: tx }, id, change));
}

test("everybody gets the new image, cohort by cohort and never too many at once, and then new tenants get it, too (F86)", async (t) => {
  await withFleet(t, 40, async (stage) => {
    await startRollout(stage.ctx, { ...WISH, parallel: 4 });
    await stage.run(({ counts, cohorts }) => {
      assert.ok(counts.moving <= 4);
      for (const [index, { counts: later }] of cohorts.entries()) {
        const before = cohorts[index - 1]?.counts;
        if (before !== undefined && later.moving + later.healthy > 0) assert.equal(before.pending + before.moving, 0);
      }
      return false;
    });
    const { status, counts, cohorts, elsewhere } = await stage.progress();
    assert.deepEqual([status, counts.healthy, elsewhere], ["finished", 40, 0]);
    assert.deepEqual(
      cohorts.map(({ size, tenants }) => [size, tenants]),
      [
        ["1", 1],
        ["5%", 1],
        ["25%", 8],
        ["100%", 30],
      ],
    );
    assert.deepEqual(new Set((await stage.images()).values()), new Set([NEW]));
    assert.deepEqual(new Set(stage.ensured.map(({ urgency }) => urgency)), new Set(["rollout"]));
    const settings = await readSettingsInForce(stage.ctx);
    assert.deepEqual([settings.source, settings.inForce.image], ["operator", NEW]);
    const [moved, ...more] = await eventsOf(stage, stage.first, "tenant.moved");
    assert.deepEqual([moved?.detail, more], [{ rollout: 1, from: 1, to: 2 }, []]);
    assert.equal(await sweepRuntimes(stage.ctx), 0);
  });
});

test("three bad ones of a hundred halt it: they run again on what worked, the rest goes on when told to, and nobody is moved twice (F88)", async (t) => {
  await withFleet(t, 100, async (stage) => {
    const { ctx, ids } = stage;
    const bad = [ids[5], ids[10], ids[26]].map((id) => id ?? assert.fail());
    for (const [index, id] of bad.entries()) stage.spoil(id, NEW, index === 0 ? "silent" : "refused");
    const id = await startRollout(ctx, WISH);
    await stage.run();
    const halted = await stage.progress();
    assert.deepEqual([halted.status, halted.reason], ["halted", "3 of its tenants failed, the limit is 3"]);
    assert.deepEqual(
      [halted.failures, halted.counts.moving, halted.counts["rolled-back"], halted.counts.failed],
      [3, 0, 3, 0],
    );
    assert.match(halted.release.failedReason ?? "", /3 of its tenants failed/);
    assert.deepEqual(halted.problems.map(({ tenant }) => tenant).sort(), ["tenant-006", "tenant-011", "tenant-027"]);
    for (const { reason } of halted.problems) assert.match(reason ?? "", /not healthy within 30 s|no such image/);
    const images = await stage.images();
    assert.deepEqual(
      bad.map((one) => images.get(one)),
      [OLD, OLD, OLD],
    );
    for (const one of bad) {
      assert.equal((await stage.driver.inspect(one)).state, "running");
      assert.equal((await eventsOf(stage, one, "tenant.rolled-back")).length, 1);
    }
    assert.equal([...images.values()].filter((image) => image === NEW).length, halted.counts.healthy);
    assert.ok(halted.counts.pending > 0);
    assert.equal((await readSettingsInForce(ctx)).inForce.image, OLD);

    await assert.rejects(startRollout(ctx, WISH), { code: "rollout_under_way" });
    await assert.rejects(resumeRollout(ctx, {}, "on"), { code: "rollout_state", message: /--max-failures 6/ });
    assert.equal(await resumeRollout(ctx, { maxFailures: 6 }, "on"), id);
    await stage.run();
    const finished = await stage.progress();
    assert.deepEqual(
      [finished.status, finished.counts.healthy, finished.counts["rolled-back"], finished.elsewhere],
      ["finished", 97, 3, 3],
    );
    for (const one of ids) assert.equal((await eventsOf(stage, one, "tenant.moved")).length, 1);
    assert.equal((await readSettingsInForce(ctx)).inForce.image, NEW);
  });
});

test("an executor that is cut off before its commit has done nothing, and one that is repeated does nothing twice", async (t) => {
  await withFleet(t, 12, async (stage) => {
    const { ctx, ids } = stage;
    const id = await startRollout(ctx, { ...WISH, cohorts: ["100%"] });
    const cutOff = { ...ctx, clock: { now: () => stage.clock.now() }, db: cutOffBeforeCommit(ctx.db) };
    await assert.rejects(advanceRollout(cutOff, id), /the process ended/);
    assert.equal((await stage.progress()).counts.pending, 12);
    await Promise.all([advanceRollout(ctx, id), advanceRollout(ctx, id), advanceRollout(ctx, id)]);
    const { counts } = await stage.progress();
    assert.deepEqual([counts.moving, counts.pending], [10, 2]);
    // Its job is lost with the daemon that had it.
    await sql`SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs WHERE task_identifier = 'rollout.advance'`.execute(
      ctx.db,
    );
    assert.equal(await sweepRollouts(ctx), 1);
    await stage.run();
    assert.equal((await stage.progress()).status, "finished");
    for (const one of ids) assert.equal((await eventsOf(stage, one, "tenant.moved")).length, 1);
    assert.equal(await sweepRollouts(ctx), 0);
  });
});

/** The end of the process in the middle: everything was asked of the database, and nothing committed. */
function cutOffBeforeCommit(db: Stage["ctx"]["db"]): Stage["ctx"]["db"] {
  const transaction = () => ({
    execute: (work: (tx: Stage["ctx"]["db"]) => Promise<void>) =>
      db.transaction().execute(async (tx) => {
        await work(tx);
        throw new Error("the process ended");
      }),
  });
  return Object.assign(Object.create(db) as typeof db, { transaction });
}

test("whoever was on the way while no daemon lived is given its time when one does again", async (t) => {
  await withFleet(t, 2, async (stage) => {
    const { ctx, clock } = stage;
    const id = await startRollout(ctx, { ...WISH, maxFailures: 1 });
    await advanceRollout(ctx, id);
    clock.advance(3_600_000);
    await advanceRollout(ctx, id);
    await stage.run();
    const { status, counts } = await stage.progress();
    assert.deepEqual([status, counts.healthy], ["finished", 2]);
  });
});

test("paused, those on their way get there and nobody else begins; resumed, it goes on", async (t) => {
  await withFleet(t, 12, async (stage) => {
    const { ctx } = stage;
    await assert.rejects(pauseRollout(ctx, "wait"), { code: "no_rollout" });
    await startRollout(ctx, { ...WISH, cohorts: ["100%"], parallel: 5 });
    await stage.run(({ counts }) => counts.moving === 5);
    await pauseRollout(ctx, "wait");
    await stage.run();
    const paused = await stage.progress();
    assert.deepEqual([paused.status, paused.counts.healthy, paused.counts.pending], ["paused", 5, 7]);
    assert.ok(isSettled(paused));
    await assert.rejects(pauseRollout(ctx, "wait"), { code: "rollout_state" });
    await resumeRollout(ctx, {}, "go on");
    await assert.rejects(resumeRollout(ctx, {}, "go on"), { code: "rollout_state" });
    await stage.run();
    assert.equal((await stage.progress()).status, "finished");
  });
});

test("aborted, everything stays as it is, or everybody who was moved goes back", async (t) => {
  for (const takesBack of [false, true]) {
    await withFleet(t, 12, async (stage) => {
      const { ctx } = stage;
      const [, , , , sleeper] = stage.ids as [TenantId, TenantId, TenantId, TenantId, TenantId];
      await suspend(stage, sleeper);
      await stage.settle(sleeper);
      await startRollout(ctx, { ...WISH, cohorts: ["100%"], parallel: 3 });
      await stage.run(({ counts }) => counts.healthy >= 6 && counts.moving > 0);
      await pauseRollout(ctx, "wait");
      await stage.run();
      await abortRollout(ctx, { takesBack, reason: "enough" });
      // Nobody is on the way, neither there nor back.
      assert.equal(isSettled(await stage.progress()), !takesBack);
      await stage.run(({ counts }) => {
        assert.ok(counts["rolling-back"] <= 3);
        return false;
      });
      const progress = await stage.progress();
      assert.ok(isSettled(progress));
      const { status, reason, counts, failures } = progress;
      assert.deepEqual([status, reason, failures], ["aborted", "enough", 0]);
      const onNew = [...(await stage.images()).values()].filter((image) => image === NEW).length;
      assert.equal(onNew, takesBack ? 0 : counts.healthy);
      assert.ok(takesBack ? counts["rolled-back"] >= 6 : counts["rolled-back"] === 0);
      assert.ok(counts.pending > 0);
      assert.equal((await readSettingsInForce(ctx)).inForce.image, OLD);
      await startRollout(ctx, WISH);
      await stage.run();
      assert.equal((await stage.progress()).elsewhere, 0);
    });
  }
});

test("sleeping tenants are moved without being woken, and show when they wake whether it runs (F39, F40)", async (t) => {
  await withFleet(t, 4, async (stage) => {
    const { ctx, driver, clock } = stage;
    const [awake, idle, suspended, broken] = stage.ids as [TenantId, TenantId, TenantId, TenantId];
    for (const id of [idle, broken]) await sleepTenant(ctx, id, "test");
    await suspend(stage, suspended);
    clock.advance(60_000);
    for (const id of [idle, broken, suspended]) await stage.settle(id);
    let woken = 0;
    ctx.runtimes.wake = async (id) => {
      woken += 1;
      return driver.wake(id);
    };
    stage.spoil(broken, NEW);
    await startRollout(ctx, { ...WISH, maxFailures: 1 });
    await stage.run();
    const moved = await stage.progress();
    assert.deepEqual([moved.status, moved.counts.healthy, moved.counts["moved-asleep"]], ["finished", 1, 3]);
    assert.equal(woken, 0);
    for (const id of stage.ids) {
      const { state, image } = await driver.inspect(id);
      assert.deepEqual([state, image], [id === awake ? "running" : "asleep", NEW]);
    }
    assert.equal(await sweepRuntimes(ctx), 0);
    assert.equal(await sweepRollouts(ctx), 0);

    for (const id of [idle, broken]) await wakeTenant(ctx, id);
    await stage.run();
    const after = await stage.progress();
    assert.deepEqual([after.counts.healthy, after.counts["moved-asleep"], after.counts["rolled-back"]], [2, 1, 1]);
    assert.equal(after.failures, 1);
    assert.match(after.release.failedReason ?? "", /1 of its tenants failed/);
    const { state, image } = await driver.inspect(broken);
    assert.deepEqual([state, image], ["running", OLD]);
    await assert.rejects(startRollout(ctx, { ...WISH, change: {} }), { code: "release_failed" });
  });
});

test("a sleeping tenant whose platform refuses the image stays as it was, asleep, and counts as a failure", async (t) => {
  await withFleet(t, 1, async (stage) => {
    const { ctx, driver, first } = stage;
    await suspend(stage, first);
    await stage.settle(first);
    stage.spoil(first, NEW, "refused");
    await startRollout(ctx, { ...WISH, maxFailures: 1, deadlineSeconds: 600 });
    await stage.run();
    const { status, failures, counts } = await stage.progress();
    assert.deepEqual([status, failures, counts["rolled-back"]], ["halted", 1, 1]);
    assert.deepEqual([(await driver.inspect(first)).state, (await driver.inspect(first)).image], ["asleep", OLD]);
  });
});

test("who leaves while it goes on is skipped, and who comes back or is new gets what new tenants get", async (t) => {
  await withFleet(t, 6, async (stage) => {
    const { ctx } = stage;
    const leaving = stage.ids[5] ?? assert.fail();
    await startRollout(ctx, { ...WISH, parallel: 1, cohorts: ["100%"] });
    await stage.run(({ counts }) => counts.healthy === 2);
    const inTransaction = (change: Parameters<typeof changeStatus>[2]) =>
      ctx.db.transaction().execute((tx) => changeStatus({ ...ctx, db: tx }, leaving, change));
    await inTransaction({ to: "deprovisioning", reason: "ended" });
    await stage.run();
    const { status, counts, problems } = await stage.progress();
    assert.deepEqual([status, counts.healthy, counts.skipped], ["finished", 5, 1]);
    assert.match(problems[0]?.reason ?? "", /the tenant is (deprovisioning|deleted)/);
    await restoreTenant(ctx, leaving, { reason: "back", unpaid: false });
    await stage.settle(leaving, () => stage.converge(leaving, ctx));
    assert.equal((await stage.images()).get(leaving), NEW);
    assert.equal((await getTenant(ctx.db, leaving)).status, "active");
  });
});

test("a release that changes nothing for a tenant moves nothing of it", async (t) => {
  await withFleet(t, 3, async (stage) => {
    const before = await stage.driver.list();
    await startRollout(stage.ctx, { ...WISH, change: { plus: ["claude-sonnet-4-5"] } });
    await stage.run();
    assert.equal((await stage.progress()).counts.healthy, 3);
    assert.deepEqual(await stage.driver.list(), before);
  });
});

test("a rollout of some leaves what new tenants get alone, and can be followed by one of all", async (t) => {
  await withFleet(t, 6, async (stage) => {
    const { ctx, ids } = stage;
    await sql`UPDATE tenants SET tags = '{canary}' WHERE id = ${ids[3]}`.execute(ctx.db);
    await startRollout(ctx, { ...WISH, selector: { tag: "canary" } });
    await stage.run();
    const some = await stage.progress();
    assert.deepEqual([some.status, some.tenants, some.elsewhere], ["finished", 1, 5]);
    assert.equal((await readSettingsInForce(ctx)).inForce.image, OLD);
    await startRollout(ctx, WISH);
    await stage.run();
    const all = await stage.progress();
    assert.deepEqual([all.tenants, all.elsewhere, all.release.id], [5, 0, some.release.id]);
  });
});

test("a rollback gives everybody the release before, new tenants at once, and remembers the one that was left", async (t) => {
  await withFleet(t, 5, async (stage) => {
    const { ctx } = stage;
    const wish = { ...WISH, cohorts: ["100%"], to: undefined, reason: "it forgets names" };
    await assert.rejects(startRollback(ctx, wish), { code: "nothing_to_go_back_to" });
    await startRollout(ctx, WISH);
    await assert.rejects(startRollback(ctx, wish), { code: "rollout_under_way" });
    await stage.run();
    await startRollback(ctx, wish);
    assert.equal((await readSettingsInForce(ctx)).inForce.image, OLD);
    await stage.run();
    const { kind, status, counts } = await stage.progress();
    assert.deepEqual([kind, status, counts.healthy], ["rollback", "finished", 5]);
    assert.deepEqual(new Set((await stage.images()).values()), new Set([OLD]));
    await assert.rejects(startRollout(ctx, WISH), { code: "release_failed", message: /it forgets names.*--force/ });
    await assert.rejects(startRollout(ctx, { ...WISH, change: { image: NEW, basic: ["claude-sonnet-4-5"] } }), {
      code: "release_failed",
    });
    await assert.rejects(startRollback(ctx, wish), { code: "nothing_to_go_back_to" });
    await startRollout(ctx, { ...WISH, force: true });
    await stage.run();
    assert.deepEqual(new Set((await stage.images()).values()), new Set([NEW]));
  });
});
