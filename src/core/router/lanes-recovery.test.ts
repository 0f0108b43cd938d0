import assert from "node:assert/strict";
import test from "node:test";
import { createLog } from "../platform/log.ts";
import type { Entry } from "./inbox.ts";
import { createLanes, type LanesOptions, type Step } from "./lanes.ts";

const delivered: Step = { kind: "finish", outcome: "delivered" };
const lease = { shard: 0, epoch: 1 };

function entry(seq: number): Entry {
  return { seq, botId: 1, updateId: seq, lane: 1, shard: 0, body: Buffer.alloc(0), acceptedAt: new Date(0) };
}

function setUp(change: Partial<LanesOptions>) {
  return createLanes({
    process: async () => delivered,
    finish: async () => true,
    findOpenLanes: async () => [],
    loadLane: async () => [],
    concurrency: 4,
    log: createLog("error", { write: () => undefined }),
    ...change,
  });
}

test("a shard whose backlog can't be read is not held, so that it is opened again", async () => {
  let isDown = true;
  const done = Promise.withResolvers<number>();
  const lanes = setUp({
    findOpenLanes: async () => {
      if (isDown) throw new Error("connection lost");
      return [{ shard: 0, lane: 1, updates: 1, newest: 1 }];
    },
    loadLane: async () => [entry(1)],
    process: async ({ seq }) => {
      done.resolve(seq);
      return delivered;
    },
  });
  await assert.rejects(lanes.open([lease]));
  assert.deepEqual(lanes.held(), []);
  assert.equal(lanes.holds(entry(2).shard), false);
  isDown = false;
  await lanes.open([lease]);
  assert.equal(await done.promise, 1);
});

test("what was delivered is not delivered again because it could not be recorded (F8)", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const processed: number[] = [];
  const failed = Promise.withResolvers<void>();
  const recorded = Promise.withResolvers<void>();
  let failures = 0;
  const lanes = setUp({
    process: async ({ seq }) => {
      processed.push(seq);
      return delivered;
    },
    finish: async () => {
      failures += 1;
      if (failures === 1) {
        failed.resolve();
        throw new Error("connection lost");
      }
      recorded.resolve();
      return true;
    },
  });
  await lanes.open([lease]);
  lanes.offer(entry(1));
  await failed.promise;
  await new Promise((resolve) => setImmediate(resolve));
  t.mock.timers.tick(1_000);
  await recorded.promise;
  assert.deepEqual(processed, [1]);
});

test("a shard taken anew is not worked on before what was begun under the old lease has ended (F14)", async () => {
  const begun: number[] = [];
  const first = Promise.withResolvers<Step>();
  const lanes = setUp({
    process: ({ seq }) => {
      begun.push(seq);
      return begun.length === 1 ? first.promise : Promise.resolve(delivered);
    },
    findOpenLanes: async () => (begun.length === 0 ? [] : [{ shard: 0, lane: 1, updates: 1, newest: 1 }]),
    loadLane: async () => (begun.length === 1 ? [entry(1)] : []),
  });
  await lanes.open([lease]);
  lanes.offer(entry(1));
  await new Promise((resolve) => setImmediate(resolve));
  const reopened = lanes.open([{ shard: 0, epoch: 2 }]);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(begun, [1]);
  first.resolve({ kind: "defer", delayMs: 0 });
  await reopened;
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(begun, [1, 1]);
});

test("an older update that turns up while a newer one is under way does not bring that one back", async () => {
  const begun: number[] = [];
  const first = Promise.withResolvers<Step>();
  const lanes = setUp({
    process: ({ seq }) => {
      begun.push(seq);
      return begun.length === 1 ? first.promise : Promise.resolve(delivered);
    },
    findOpenLanes: async () => (begun.length === 0 ? [] : [{ shard: 0, lane: 1, updates: 3, newest: 5 }]),
    loadLane: async () => (begun.length === 1 ? [entry(3), entry(4)] : []),
  });
  await lanes.open([lease]);
  lanes.offer(entry(5));
  await new Promise((resolve) => setImmediate(resolve));
  await lanes.reload([0]);
  first.resolve(delivered);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(begun, [5, 3, 4]);
});

test("a shard that was taken over is let go of: its updates are no longer in memory, and it can be opened anew (F12)", async () => {
  const inbox = [entry(1), entry(2), entry(3)];
  let isOurs = false;
  const lanes = setUp({
    findOpenLanes: async () => [{ shard: 0, lane: 1, updates: 3, newest: 3 }],
    loadLane: async () => inbox,
    finish: async ({ seq }) => {
      if (isOurs) inbox.splice(0, inbox.length, ...inbox.filter((open) => open.seq !== seq));
      return isOurs;
    },
  });
  await lanes.open([lease]);
  while (lanes.depth().updates > 0 || lanes.held().length > 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(lanes.depth(), { lanes: 0, updates: 0 });
  isOurs = true;
  await lanes.open([{ shard: 0, epoch: 2 }]);
  while (inbox.length > 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(lanes.held(), [{ shard: 0, epoch: 2 }]);
});
