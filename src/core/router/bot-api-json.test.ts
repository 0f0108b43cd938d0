import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { UsageError } from "../platform/errors.ts";
import { parseStrictJson } from "./bot-api-json.ts";

test("any JSON value is read as JSON.parse reads it", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
      const text = JSON.stringify(value, null, 1);
      assert.deepEqual(parseStrictJson(text), JSON.parse(text));
    }),
  );
});

test("an object that repeats a key is refused, at any depth and however the key is written (F93)", () => {
  for (const text of [
    '{"chat_id":1,"chat_id":2}',
    '{"chat_id":1,"ch\\u0061t_id":2}',
    '{"a":[{"b":{"c":1, "d":"c", "c" : 2}}]}',
    '{"a\\"":1,"a\\"":2}',
  ]) {
    assert.throws(() => parseStrictJson(text), { code: "repeated-key" }, text);
  }
});

test("the same key in different objects, and strings that look like keys, are fine", () => {
  const text = '[{"a":"\\"a\\":"},{"a":{"a":"a","b":["a","a"]}}]';
  assert.deepEqual(parseStrictJson(text), JSON.parse(text));
});

test("text that is not JSON, or nested beyond reason, is refused", () => {
  assert.throws(() => parseStrictJson('{"a":'), UsageError);
  assert.throws(() => parseStrictJson("[".repeat(100_000) + "]".repeat(100_000)), UsageError);
});
