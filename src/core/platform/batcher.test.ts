import assert from "node:assert/strict";
import test from "node:test";
import { createBatcher } from "./batcher.ts";

test("what arrives during a run makes up the next, and everyone gets the result of their own item", async () => {
  const batches: number[][] = [];
  const gates: PromiseWithResolvers<void>[] = [];
  const batcher = createBatcher<number, number>({
    maxItems: 3,
    async run(items) {
      batches.push(items);
      const gate = Promise.withResolvers<void>();
      gates.push(gate);
      await gate.promise;
      return items.map((item) => item * 10);
    },
  });
  const first = batcher.submit(1);
  await Promise.resolve();
  await Promise.resolve();
  const later = [2, 3, 4, 5].map((item) => batcher.submit(item));
  assert.equal(batcher.waiting, 4);
  while (gates.length < 1) await Promise.resolve();
  gates[0]?.resolve();
  assert.equal(await first, 10);
  while (gates.length < 2) await Promise.resolve();
  gates[1]?.resolve();
  assert.deepEqual(await Promise.all(later.slice(0, 3)), [20, 30, 40]);
  while (gates.length < 3) await Promise.resolve();
  gates[2]?.resolve();
  assert.equal(await later[3], 50);
  assert.deepEqual(batches, [[1], [2, 3, 4], [5]]);
});

test("a run that fails is told to all in its batch, and the next batch goes on", async () => {
  let fail = true;
  const batcher = createBatcher<number, number>({
    maxItems: 10,
    async run(items) {
      if (!fail) return items;
      fail = false;
      throw new Error("no connection");
    },
  });
  const both = await Promise.allSettled([batcher.submit(1), batcher.submit(2)]);
  assert.deepEqual(
    both.map((result) => result.status),
    ["rejected", "rejected"],
  );
  assert.equal(await batcher.submit(3), 3);
});
