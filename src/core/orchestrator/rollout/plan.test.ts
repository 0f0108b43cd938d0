import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { addMs } from "../../platform/clock.ts";
import type { ReleaseId, TenantId } from "../../platform/ids.ts";
import { cohortEnds } from "./cohorts.ts";
import type { RolloutRules, RolloutStep, RolloutTenant } from "./judge.ts";
import { planRollout } from "./plan.ts";

const OLD = 1 as ReleaseId;
const NEW = 2 as ReleaseId;
const START = new Date("2026-03-01T12:00:00Z");
const DEADLINE_SECONDS = 600;

/** A rollout and its tenants in memory; `carryOut` does to them what the executor does in the database. */
class World {
  rules: RolloutRules;
  tenants: RolloutTenant[];
  now = START;
  isOpen = true;
  readonly started: TenantId[] = [];

  constructor({ count, parallel, maxFailures }: { count: number; parallel: number; maxFailures: number }) {
    const ends = cohortEnds(["1", "5%", "25%"], count);
    this.rules = {
      status: "running",
      takesBack: false,
      releaseId: NEW,
      parallel,
      maxFailures,
      deadlineSeconds: DEADLINE_SECONDS,
      attendedSince: START,
      isReleaseFailed: false,
    };
    this.tenants = Array.from({ length: count }, (_, index) => ({
      tenantId: `tenant-${index}` as TenantId,
      cohort: ends.findIndex(({ end }) => index < end) + 1,
      state: "pending",
      startedAt: null,
      hasFailed: false,
      backToReleaseId: null,
      status: "active",
      target: { releaseId: OLD, state: "good", stateAt: START },
      attempts: 0,
      trouble: null,
    }));
  }

  /** One pass: all of what is decided happens, or nothing when the process ends before its commit. */
  pass({ isCutOff = false } = {}): RolloutStep[] {
    const before = this.tenants;
    const { steps, isOpen } = planRollout(this.rules, this.tenants, this.now);
    assert.equal(this.tenants, before);
    if (isCutOff) return [];
    this.isOpen = isOpen;
    for (const step of steps) this.carryOut(step);
    return steps;
  }

  carryOut(step: RolloutStep): void {
    switch (step.kind) {
      case "halt":
        this.rules = { ...this.rules, status: "halted", isReleaseFailed: true };
        return;
      case "fail-release":
        this.rules = { ...this.rules, isReleaseFailed: true };
        return;
      case "finish":
        this.rules = { ...this.rules, status: "finished" };
        return;
      case "start":
        this.checkStart(step.tenantId);
        this.started.push(step.tenantId);
        return this.change(step.tenantId, {
          state: "moving",
          startedAt: this.now,
          backToReleaseId: OLD,
          target: { releaseId: NEW, state: "set", stateAt: this.now },
          attempts: 0,
        });
      case "settle":
        return this.change(step.tenantId, { state: step.state });
      case "give-up":
        return this.change(step.tenantId, { state: "failed", hasFailed: true });
      case "take-back":
        return this.change(step.tenantId, {
          state: "rolling-back",
          hasFailed: this.get(step.tenantId).hasFailed || step.isFailure,
          target: { releaseId: step.to, state: "set", stateAt: this.now },
          attempts: 0,
        });
    }
  }

  checkStart(tenantId: TenantId): void {
    const { cohort } = this.get(tenantId);
    assert.ok(!this.started.includes(tenantId), "a tenant is moved once");
    assert.equal(this.rules.status, "running");
    assert.ok(this.failures() < this.rules.maxFailures, "nobody is moved after too many failures");
    assert.ok(this.count("moving") < this.rules.parallel, "never more at once than asked for");
    const isOutOfTurn = this.tenants.some(
      (tenant) => tenant.cohort < cohort && (tenant.state === "pending" || tenant.state === "moving"),
    );
    assert.ok(!isOutOfTurn, "a cohort begins after those before it");
  }

  get(tenantId: TenantId): RolloutTenant {
    return this.tenants.find((tenant) => tenant.tenantId === tenantId) ?? assert.fail();
  }

  change(tenantId: TenantId, change: Partial<RolloutTenant>): void {
    this.tenants = this.tenants.map((tenant) => (tenant.tenantId === tenantId ? { ...tenant, ...change } : tenant));
  }

  /** News of a tenant's runtime, as its convergence writes it down. */
  see(tenant: RolloutTenant | undefined, state: "good" | "asleep" | "waking"): void {
    if (tenant?.target === undefined) return;
    const isNews = state === "waking" ? tenant.target.state === "asleep" : tenant.target.state !== "good";
    if (isNews) this.change(tenant.tenantId, { target: { ...tenant.target, state, stateAt: this.now } });
  }

  count(state: RolloutTenant["state"]): number {
    return this.tenants.filter((tenant) => tenant.state === state).length;
  }

  failures(): number {
    return this.tenants.filter(({ hasFailed }) => hasFailed).length;
  }
}

type Event = { kind: string; index: number };

function happen(world: World, { kind, index }: Event): void {
  const tenant = world.tenants[index % world.tenants.length];
  assert.ok(tenant);
  const { rules } = world;
  switch (kind) {
    case "pass":
      return void world.pass();
    case "cut-off":
      return void world.pass({ isCutOff: true });
    case "good":
    case "asleep":
    case "waking":
      return world.see(tenant, kind);
    case "failure":
      return world.change(tenant.tenantId, { attempts: tenant.attempts + 1, trouble: "it does not start" });
    case "time":
      world.now = addMs(world.now, index * 20_000);
      return;
    case "leaves":
      return world.change(tenant.tenantId, { status: "deprovisioning" });
    case "returns":
      return world.change(tenant.tenantId, {
        status: "active",
        ...(tenant.status === "active" ? {} : { target: { releaseId: OLD, state: "set", stateAt: world.now } }),
      });
    case "pause":
      if (rules.status === "running") world.rules = { ...rules, status: "paused" };
      return;
    case "resume":
      if (rules.status === "paused" || rules.status === "halted")
        world.rules = {
          ...rules,
          status: "running",
          isReleaseFailed: false,
          maxFailures: Math.max(rules.maxFailures, world.failures() + 1),
        };
      return;
    case "abort":
      if (rules.status !== "finished") world.rules = { ...rules, status: "aborted", takesBack: index % 2 === 0 };
  }
}

const shape = fc.record({
  count: fc.integer({ min: 1, max: 60 }),
  parallel: fc.integer({ min: 1, max: 12 }),
  maxFailures: fc.integer({ min: 1, max: 5 }),
});
function eventsOf(kinds: readonly string[], maxLength: number): fc.Arbitrary<Event[]> {
  const event = fc.record({ kind: fc.constantFrom(...kinds), index: fc.nat({ max: 59 }) });
  return fc.array(event, { maxLength, size: "max" });
}

/** All of it, and in some of the cases an operator's end to it. */
function anything(maxLength: number): fc.Arbitrary<Event[]> {
  const events = eventsOf([...news, ...news, "leaves", "returns", "pause", "resume", "resume"], maxLength);
  const abort = fc.record({ at: fc.nat({ max: maxLength }), index: fc.nat({ max: 1 }) });
  return fc
    .tuple(events, fc.option(abort))
    .map(([happening, end]) =>
      end === null ? happening : happening.toSpliced(end.at, 0, { kind: "abort", index: end.index }),
    );
}
const news = ["pass", "pass", "pass", "cut-off", "good", "good", "good", "asleep", "waking", "failure", "time"];
const RUNS = Number(process.env["OPENCLAW_TEST_RUNS"] ?? 100);

test("whatever the order of news, cut-offs, pauses and departures: each is moved once, in turn, and never too many at once", () => {
  fc.assert(
    fc.property(shape, anything(300), (asked, happening) => {
      const world = new World(asked);
      for (const event of happening) {
        happen(world, event);
        assert.ok(world.count("moving") <= world.rules.parallel);
        if (world.rules.status === "halted") assert.ok(world.failures() >= world.rules.maxFailures);
      }
    }),
    { numRuns: RUNS },
  );
});

test("it halts at the limit: no more fail than that and those that were on their way", () => {
  // Who was moved asleep may fail at any later time: here all are awake.
  const events = eventsOf(
    news.filter((kind) => kind !== "asleep"),
    400,
  );
  fc.assert(
    fc.property(shape, events, (asked, happening) => {
      const world = new World(asked);
      for (const event of happening) happen(world, event);
      world.pass();
      assert.ok(world.failures() < asked.maxFailures + asked.parallel);
      if (world.failures() >= asked.maxFailures) assert.notEqual(world.rules.status, "running");
    }),
    { numRuns: RUNS },
  );
});

test("left alone it comes to its end, and says that there is something to look at until then", () => {
  fc.assert(
    fc.property(shape, anything(150), (asked, happening) => {
      const world = new World(asked);
      for (const event of happening) happen(world, event);
      happen(world, { kind: "resume", index: 0 });
      world.pass();
      for (let pass = 0; world.isOpen; pass++) {
        assert.ok(pass < 500, "it ends");
        for (const tenant of world.tenants) if (tenant.target?.state !== "asleep") world.see(tenant, "good");
        world.now = addMs(world.now, 1_000);
        world.pass();
        happen(world, { kind: "resume", index: 0 });
        if (world.rules.status === "running") world.isOpen = true;
      }
      assert.ok(["finished", "aborted"].includes(world.rules.status), world.rules.status);
      assert.equal(world.count("moving") + world.count("rolling-back"), 0);
      if (world.rules.status === "finished") assert.equal(world.count("pending"), 0);
      if (!world.rules.takesBack) return;
      const left = world.tenants.filter(({ status, target }) => status === "active" && target?.releaseId === NEW);
      assert.deepEqual(left, []);
    }),
    { numRuns: RUNS },
  );
});

test("a runtime that comes up in time is healthy, whatever failed before; one that doesn't goes back", () => {
  const world = new World({ count: 1, parallel: 1, maxFailures: 3 });
  const [{ tenantId }] = world.tenants as [RolloutTenant];
  world.pass();
  world.change(tenantId, { attempts: 2, trouble: "no room" });
  world.now = addMs(START, DEADLINE_SECONDS * 1_000 - 1);
  assert.deepEqual(world.pass(), []);
  world.now = addMs(START, DEADLINE_SECONDS * 1_000);
  assert.deepEqual(world.pass(), [
    { kind: "take-back", tenantId, to: OLD, reason: "not healthy within 600 s: no room", isFailure: true },
  ]);
  world.see(world.get(tenantId), "good");
  const [settled, finish] = world.pass();
  assert.deepEqual(settled, { kind: "settle", tenantId, state: "rolled-back", reason: undefined });
  assert.deepEqual(finish, { kind: "finish" });
});

test("no deadline runs while nobody is there to look after the runtimes", () => {
  const world = new World({ count: 1, parallel: 1, maxFailures: 1 });
  world.pass();
  world.now = addMs(START, 3 * DEADLINE_SECONDS * 1_000);
  world.rules = { ...world.rules, attendedSince: world.now };
  assert.deepEqual(world.pass(), []);
  world.now = addMs(world.now, DEADLINE_SECONDS * 1_000);
  assert.equal(world.pass()[0]?.kind, "take-back");
});

test("three failures in a row are enough, and one that has nothing to go back to is given up", () => {
  const world = new World({ count: 1, parallel: 1, maxFailures: 1 });
  const [{ tenantId }] = world.tenants as [RolloutTenant];
  world.pass();
  world.change(tenantId, { attempts: 3, trouble: "no such image", backToReleaseId: null });
  const [givenUp, halted] = world.pass();
  assert.deepEqual(givenUp, {
    kind: "give-up",
    tenantId,
    reason: "3 failures in a row, the last: no such image",
  });
  assert.deepEqual(halted, { kind: "halt", reason: "1 of its tenants failed, the limit is 1" });
});

test("who was moved asleep counts when it wakes, also after the rollout: what fails then is the release's fault", () => {
  const world = new World({ count: 3, parallel: 3, maxFailures: 1 });
  for (let pass = 0; pass < 4; pass++) {
    world.pass();
    for (const tenant of world.tenants) if (tenant.state === "moving") world.see(tenant, "asleep");
  }
  assert.equal(world.rules.status, "finished");
  assert.equal(world.isOpen, false);
  const [first, second] = world.tenants as [RolloutTenant, RolloutTenant];
  world.see(first, "waking");
  world.see(second, "waking");
  world.pass();
  assert.equal(world.isOpen, true);
  world.see(world.get(first.tenantId), "good");
  world.change(second.tenantId, { attempts: 3, trouble: "it crashed" });
  assert.deepEqual(
    world.pass().map(({ kind }) => kind),
    ["settle", "take-back", "fail-release"],
  );
  assert.deepEqual(
    world.tenants.map(({ state }) => state),
    ["healthy", "rolling-back", "moved-asleep"],
  );
  assert.equal(world.rules.status, "finished");
});

test("who leaves is skipped and no failure, before its turn and on its way", () => {
  const world = new World({ count: 3, parallel: 3, maxFailures: 1 });
  const [first, second, third] = world.tenants as [RolloutTenant, RolloutTenant, RolloutTenant];
  world.pass();
  world.change(first.tenantId, { status: "deprovisioning", attempts: 9 });
  world.change(second.tenantId, { status: "pending" });
  world.change(third.tenantId, { status: undefined });
  world.pass();
  assert.deepEqual(
    world.tenants.map(({ state }) => state),
    ["skipped", "skipped", "skipped"],
  );
  assert.deepEqual([world.rules.status, world.failures()], ["finished", 0]);
});
