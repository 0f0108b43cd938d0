import assert from "node:assert/strict";
import test from "node:test";
import { UsageError } from "../platform/errors.ts";
import { parseNewTenant } from "./tenant-input.ts";

const tenant = (change: object) => parseNewTenant({ slug: "alice", email: "alice@example.com", ...change });

test("preferences that PostgreSQL can't keep are refused, and text that only looks like them is not", () => {
  for (const text of ["a\0b", "\ud800"]) assert.throws(() => tenant({ preferences: { text } }), UsageError);
  const kept = { emoji: "😀", escape: "\\u0000", path: "C:\\users\\d8ff" };
  assert.deepEqual(tenant({ preferences: kept }).preferences, kept);
});

test("a name that would draw on an operator's terminal is refused", () => {
  assert.throws(() => tenant({ displayName: "Al\u001b[2Jice" }), /displayName must not hold control characters/);
  assert.equal(tenant({ displayName: "Ålice ✓" }).displayName, "Ålice ✓");
});
