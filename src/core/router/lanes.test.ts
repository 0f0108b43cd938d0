import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { createLog } from "../platform/log.ts";
import type { Entry, OpenLane } from "./inbox.ts";
import { createLanes, type LanesOptions, type Step } from "./lanes.ts";

const log = createLog("error");
const entry = (seq: number, lane = 1, shard = 0): Entry => ({
  seq,
  botId: 1,
  updateId: seq,
  lane,
  shard,
  body: Buffer.alloc(0),
  acceptedAt: new Date(0),
});
const delivered: Step = { kind: "finish", outcome: "delivered" };

/** Lanes over an inbox in memory that behaves like the table: what is finished is not loaded again. */
function setUp(change: Partial<LanesOptions> = {}, inbox: Entry[] = []) {
  const done: number[] = [];
  const open = () => inbox.filter((candidate) => !done.includes(candidate.seq)).toSorted((a, b) => a.seq - b.seq);
  const lanes = createLanes({
    process: async () => delivered,
    finish: async ({ seq }) => {
      done.push(seq);
      return true;
    },
    findOpenLanes: async (shards) => openLanes(open().filter(({ shard }) => shards.includes(shard))),
    loadLane: async (shard, lane, limit) =>
      open()
        .filter((candidate) => candidate.shard === shard && candidate.lane === lane)
        .slice(0, limit),
    concurrency: 4,
    log,
    ...change,
  });
  return { lanes, done, inbox };
}

function openLanes(entries: readonly Entry[]): OpenLane[] {
  return [...Map.groupBy(entries, ({ lane }) => lane)].map(([lane, list]) => ({
    shard: 0,
    lane,
    updates: list.length,
    newest: Math.max(...list.map(({ seq }) => seq)),
  }));
}

async function until(condition: () => boolean): Promise<void> {
  for (let turns = 0; !condition(); turns += 1) {
    // Far more turns of the event loop than any of this takes.
    assert.ok(turns < 1_000_000, "what was waited for does not come");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("a backlog is worked off in order before what comes in meanwhile", async () => {
  const found = Promise.withResolvers<OpenLane[]>();
  const inbox = [entry(1), entry(2)];
  const { lanes, done } = setUp({ findOpenLanes: () => found.promise }, inbox);
  const opening = lanes.open([{ shard: 0, epoch: 1 }]);
  inbox.push(entry(3));
  lanes.offer(entry(3));
  found.resolve([]);
  await opening;
  await until(() => done.length === 3);
  assert.deepEqual(done, [1, 2, 3]);
});

test("an update for a shard held by somebody else is not taken", () => {
  const { lanes } = setUp();
  assert.equal(lanes.holds(entry(1).shard), false);
  lanes.offer(entry(1));
  assert.deepEqual(lanes.depth(), { lanes: 0, updates: 0 });
});

test("one in flight per lane, lanes side by side (F14)", async () => {
  const underWay: number[] = [];
  const gates = new Map<number, () => void>();
  const { lanes, done } = setUp({
    process: async ({ seq }) => {
      underWay.push(seq);
      await new Promise<void>((resolve) => gates.set(seq, resolve));
      return delivered;
    },
  });
  await lanes.open([{ shard: 0, epoch: 1 }]);
  for (const each of [entry(1, 7), entry(2, 7), entry(3, 8)]) lanes.offer(each);
  await until(() => underWay.length === 2);
  assert.deepEqual(underWay, [1, 3]);
  gates.get(1)?.();
  await until(() => underWay.length === 3);
  assert.deepEqual(underWay, [1, 3, 2]);
  gates.get(3)?.();
  await until(() => gates.has(2));
  gates.get(2)?.();
  await until(() => done.length === 3);
});

test("a deferred update holds its own lane only, and is tried again", async () => {
  const tries: number[] = [];
  const { lanes, done } = setUp({
    process: async ({ seq }) => {
      tries.push(seq);
      return seq === 1 && tries.filter((tried) => tried === 1).length < 3 ? { kind: "defer", delayMs: 1 } : delivered;
    },
  });
  await lanes.open([{ shard: 0, epoch: 1 }]);
  for (const each of [entry(1, 7), entry(2, 7), entry(3, 8)]) lanes.offer(each);
  await until(() => done.length === 3);
  assert.deepEqual(done, [3, 1, 2]);
});

test("whoever lost the shard does not finish and begins nothing more there (F89)", async () => {
  const tries: number[] = [];
  const { lanes } = setUp({
    process: async ({ seq }) => {
      tries.push(seq);
      return delivered;
    },
    finish: async () => false,
  });
  await lanes.open([{ shard: 0, epoch: 1 }]);
  lanes.offer(entry(1));
  lanes.offer(entry(2));
  await until(() => lanes.held().length === 0);
  assert.deepEqual(tries, [1]);
});

test("an update that makes its work throw is kept and tried again", async () => {
  let failures = 1;
  const quiet = createLog("error", { write: () => undefined });
  const { lanes, done } = setUp({
    log: quiet,
    process: async () => {
      if (failures-- > 0) throw new Error("no database");
      return delivered;
    },
  });
  await lanes.open([{ shard: 0, epoch: 1 }]);
  lanes.offer(entry(1));
  await until(() => done.length === 1);
});

test("closing waits for what is under way and leaves the rest", async () => {
  const gate = Promise.withResolvers<void>();
  const { lanes, done } = setUp({
    process: async () => {
      await gate.promise;
      return delivered;
    },
  });
  await lanes.open([{ shard: 0, epoch: 1 }]);
  lanes.offer(entry(1));
  lanes.offer(entry(2));
  const closed = lanes.close([0]);
  gate.resolve();
  await closed;
  assert.deepEqual(done, [1]);
});

test("a reload whose snapshot is older than a finish does not bring the update back", async () => {
  const snapshot = Promise.withResolvers<OpenLane[]>();
  let looks = 0;
  const inbox: Entry[] = [];
  const findOpenLanes = () => (looks++ === 0 ? Promise.resolve([]) : snapshot.promise);
  const { lanes, done } = setUp({ findOpenLanes }, inbox);
  await lanes.open([{ shard: 0, epoch: 1 }]);
  const reloading = lanes.reload([0]);
  inbox.push(entry(1), entry(2));
  lanes.offer(entry(1));
  await until(() => done.length === 1);
  snapshot.resolve(openLanes(inbox));
  await reloading;
  await until(() => done.length === 2);
  assert.deepEqual(done, [1, 2]);
});

test("with much in memory already, lanes keep little more than the update under way, and lose none", async () => {
  const gate = Promise.withResolvers<void>();
  const big = (seq: number): Entry => ({ ...entry(seq, seq % 2), body: Buffer.alloc(1_000_000) });
  const inbox = Array.from({ length: 120 }, (_, index) => big(index + 1));
  const { lanes, done } = setUp(
    {
      process: async () => {
        await gate.promise;
        return delivered;
      },
    },
    inbox,
  );
  await lanes.open([{ shard: 0, epoch: 1 }]);
  for (let seq = 121; seq <= 200; seq += 1) {
    inbox.push(big(seq));
    lanes.offer(big(seq));
  }
  await until(() => lanes.depth().updates > 0);
  assert.ok(lanes.depth().updates < 200, `${lanes.depth().updates} are held`);
  gate.resolve();
  await until(() => done.length === 200);
  assert.deepEqual(lanes.depth(), { lanes: 0, updates: 0 });
});

test("however updates arrive, by hand, by reload or beyond a lane's capacity, each is finished once and in order", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ lane: fc.integer({ min: 1, max: 3 }), handed: fc.boolean() }), {
        minLength: 1,
        maxLength: 400,
      }),
      fc.integer({ min: 0, max: 300 }),
      async (plan, backlog) => {
        const inbox = Array.from({ length: backlog }, (_, index) => entry(index + 1, 1));
        const { lanes, done } = setUp({}, inbox);
        await lanes.open([{ shard: 0, epoch: 1 }]);
        for (const [index, { lane, handed }] of plan.entries()) {
          const next = entry(backlog + index + 1, lane);
          inbox.push(next);
          // What is not handed over is what another daemon accepted: a hint makes the owner look.
          if (handed) lanes.offer(next);
          else await lanes.reload([0]);
        }
        await lanes.reload([0]);
        await until(() => done.length >= inbox.length);
        assert.equal(new Set(done).size, inbox.length);
        for (const lane of [1, 2, 3]) {
          const seqs = done.filter((seq) => inbox[seq - 1]?.lane === lane);
          assert.deepEqual(
            seqs,
            seqs.toSorted((a, b) => a - b),
          );
        }
      },
    ),
    { numRuns: 50 },
  );
});
