import assert from "node:assert/strict";
import test from "node:test";
import { idsIn } from "./known-ids.ts";

test("files, queries and inline messages of an update are found", () => {
  const update = {
    update_id: 1,
    message: { photo: [{ file_id: "small" }, { file_id: "large" }], reply_to_message: { voice: { file_id: "voice" } } },
    callback_query: { id: "tap", inline_message_id: "inline" },
  };
  assert.deepEqual(
    idsIn(update).map(({ kind, id }) => `${kind} ${id}`),
    ["file small", "file large", "file voice", "inline-message inline", "callback-query tap"],
  );
});

test("nesting without end and ids that can't be stored are passed over, and their number is bounded", () => {
  const deep = JSON.parse(`${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`);
  assert.deepEqual(idsIn({ update_id: 1, message: deep }), []);
  assert.deepEqual(
    idsIn({ message: { a: { file_id: "a\0b" }, b: { file_id: "x".repeat(600) }, c: { file_id: "\ud800" } } }),
    [],
  );
  const many = Array.from({ length: 1_000 }, (_, index) => ({ file_id: String(index) }));
  assert.equal(idsIn({ message: { many } }).length, 200);
});
