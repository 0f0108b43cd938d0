import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { createFairQueue, type FairQueue } from "./fair-queue.ts";

function filled(items: readonly string[]): FairQueue<string> {
  const queue = createFairQueue<string>();
  for (const item of items) queue.push(item.slice(0, 1), item);
  return queue;
}

function drain(queue: FairQueue<string>): string[] {
  const taken: string[] = [];
  for (let item = queue.take(); item !== undefined; item = queue.take()) taken.push(item);
  return taken;
}

test("shares take turns, and each keeps its own order", () => {
  assert.deepEqual(drain(filled(["a1", "a2", "a3", "b1", "c1", "b2"])), ["a1", "b1", "c1", "a2", "b2", "a3"]);
});

test("the longest share gives way, newest first", () => {
  const queue = filled(["a1", "b1", "b2", "b3"]);
  assert.deepEqual([queue.takeFromLongest(), queue.takeFromLongest()], ["b3", "b2"]);
  assert.equal(queue.size, 2);
});

test("what is taken out is not served, and nobody else is lost", () => {
  const queue = filled(["a1", "b1", "a2", "c1"]);
  assert.deepEqual(
    queue.takeWhere((item) => item.endsWith("1")),
    ["a1", "b1", "c1"],
  );
  assert.equal(queue.size, 1);
  assert.deepEqual(drain(queue), ["a2"]);
});

test("nobody waits for more than one item of every other share", () => {
  const shares = fc.array(fc.constantFrom("a", "b", "c", "d"), { maxLength: 40 });
  fc.assert(
    fc.property(shares, (sequence) => {
      const queue = createFairQueue<string>();
      for (const share of sequence) queue.push(share, share);
      queue.push("z", "z");
      assert.ok(drain(queue).indexOf("z") <= new Set(sequence).size);
    }),
  );
});
