import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { cohortEnds, DEFAULT_COHORTS, parseCohorts } from "./cohorts.ts";

const sizesOf = (sizes: readonly string[], count: number) =>
  cohortEnds(sizes, count).map(({ size, end }) => [size, end]);

test("one tenant, then 5 %, a quarter, and all", () => {
  assert.deepEqual(sizesOf(DEFAULT_COHORTS, 500), [
    ["1", 1],
    ["5%", 25],
    ["25%", 125],
    ["100%", 500],
  ]);
});

test("cohorts that would move nobody are left out, and what is left over is one of its own", () => {
  assert.deepEqual(sizesOf(DEFAULT_COHORTS, 3), [
    ["1", 1],
    ["100%", 3],
  ]);
  assert.deepEqual(sizesOf(["50%", "2"], 10), [
    ["50%", 5],
    ["100%", 10],
  ]);
  assert.deepEqual(sizesOf(DEFAULT_COHORTS, 0), []);
});

test("whatever the sizes, every tenant is in one cohort, and none is empty", () => {
  const size = fc.oneof(
    fc.integer({ min: 1, max: 2_000 }).map(String),
    fc.integer({ min: 1, max: 100 }).map((percent) => `${percent}%`),
  );
  fc.assert(
    fc.property(fc.array(size), fc.integer({ min: 1, max: 1_000 }), (sizes, count) => {
      const ends = cohortEnds(sizes, count).map(({ end }) => end);
      assert.equal(ends.at(-1), count);
      for (const [index, end] of ends.entries()) assert.ok(end > (ends[index - 1] ?? 0));
    }),
  );
});

test("what is no cohort is refused with an example", () => {
  assert.deepEqual(parseCohorts("1, 5%,100"), ["1", "5%", "100"]);
  for (const text of ["", "0", "5%,", "101%", "-1", "1.5%", "all"])
    assert.throws(() => parseCohorts(text), { code: "cohorts_invalid", message: /1,5%,25%,100%/ }, text);
});

test("a cohort that reaches no further than the one before it is refused, not dropped", () => {
  for (const text of ["5%,1%", "10,10", "1,25%,5%,100%"])
    assert.throws(() => parseCohorts(text), { code: "cohorts_invalid", message: /reaches no further/ }, text);
});
