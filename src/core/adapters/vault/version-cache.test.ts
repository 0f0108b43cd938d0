import assert from "node:assert/strict";
import test from "node:test";
import { createVersionCache } from "./version-cache.ts";

function setUp(entries = 10) {
  let time = 0;
  const asked: string[] = [];
  const cache = createVersionCache({ entries, lifetimeMs: 1_000, now: () => time });
  const read = (name: string, version: string, answer: string | undefined = `${name} ${version}`) =>
    cache.read(name, version, async () => {
      asked.push(`${name}/${version}`);
      return answer;
    });
  return { cache, asked, read, pass: (ms: number) => (time += ms) };
}

test("a version is asked for once while it is kept, also by those who ask at once", async () => {
  const { asked, read, pass } = setUp();
  assert.deepEqual(await Promise.all([read("a", "1"), read("a", "1")]), ["a 1", "a 1"]);
  pass(999);
  assert.equal(await read("a", "1"), "a 1");
  assert.deepEqual(asked, ["a/1"]);
  pass(1);
  assert.equal(await read("a", "1"), "a 1");
  assert.deepEqual(asked, ["a/1", "a/1"]);
});

test("no more are kept than there is room for: the oldest goes", async () => {
  const { asked, read } = setUp(2);
  for (const version of ["1", "2", "3", "3", "2", "1"]) await read("a", version);
  assert.deepEqual(asked, ["a/1", "a/2", "a/3", "a/1"]);
});

test("what is absent or failed is asked for again", async () => {
  const { cache, asked, read } = setUp();
  assert.equal(await cache.read("a", "1", async () => undefined), undefined);
  await assert.rejects(
    cache.read("a", "1", async () => {
      throw new Error("down");
    }),
    /down/,
  );
  assert.equal(await read("a", "1"), "a 1");
  assert.deepEqual(asked, ["a/1"]);
});

test("a name that is forgotten is asked for anew, even if an answer was on its way, and no other name is", async () => {
  const { cache, asked, read } = setUp();
  const late = Promise.withResolvers<string>();
  const before = cache.read("a", "1", () => late.promise);
  await read("a-b", "1");
  cache.forget("a");
  assert.equal(await read("a", "1", "new"), "new");
  late.resolve("old");
  assert.equal(await before, "old");
  assert.equal(await read("a", "1"), "new");
  await read("a-b", "1");
  assert.deepEqual(asked, ["a-b/1", "a/1"]);
});
