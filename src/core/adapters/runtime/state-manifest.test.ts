import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { UsageError } from "../../platform/errors.ts";
import { someTenantId } from "./contract.ts";
import { manifestOf, parseManifest, pathProblem, type StateEntry, targetProblem } from "./state-manifest.ts";

const ABOUT = { tenantId: someTenantId(), slug: "acme", createdAt: "2026-03-01T12:00:00.000Z", driver: "local" };
const SHA = "0".repeat(64);

const folder = (at: string): StateEntry => ({ kind: "folder", path: at, mode: 0o700, modifiedMs: 0 });
const file = (at: string, size = 1): StateEntry => ({
  kind: "file",
  path: at,
  mode: 0o600,
  modifiedMs: 0,
  size,
  sha256: SHA,
});
const link = (at: string, target: string): StateEntry => ({ kind: "link", path: at, target });
const textOf = (entries: StateEntry[], changes: object = {}) =>
  JSON.stringify({ ...manifestOf({ ...ABOUT, spec: null }, { entries, leftOut: [] }), ...changes });

test("a manifest reads as it was written, with its sums", () => {
  const entries = [folder("a"), file("a/b\nc", 7), file("ü", 3), link("a/l", "../ü")];
  const manifest = manifestOf({ ...ABOUT, spec: { image: "openclaw:1", hash: "h" } }, { entries, leftOut: [] });
  assert.deepEqual([manifest.files, manifest.bytes], [2, 10]);
  assert.deepEqual(parseManifest(JSON.stringify(manifest)), manifest);
});

const refused: Record<string, string> = {
  "no JSON": "{",
  "no object": "[]",
  "another format": textOf([], { format: "something else" }),
  "no version": textOf([], { version: null }),
  "a tenant that is no id": textOf([], { tenantId: "../../etc" }),
  "a path that climbs": textOf([file("../x")]),
  "a path that climbs further on": textOf([folder("a"), file("a/../../x")]),
  "an absolute path": textOf([file("/etc/passwd")]),
  "an empty path": textOf([file("")]),
  "an empty step": textOf([folder("a"), file("a//b")]),
  "a step that stays": textOf([folder("a"), file("a/./b")]),
  "a path with a zero byte": textOf([file("a\0b")]),
  "a file in no folder": textOf([file("a/b")]),
  "a file in a folder that comes later": textOf([file("a/b"), folder("a")]),
  "a file in a file": textOf([file("a"), file("a/b")]),
  "a file in a link": textOf([folder("d"), link("a", "d"), file("a/b")]),
  "a file twice": textOf([file("a"), file("a")]),
  "a link over a folder": textOf([folder("a"), link("a", "b")]),
  "a link out of the state": textOf([link("a", "../b")]),
  "a link to an absolute path": textOf([link("a", "/etc")]),
  "a link that winds out": textOf([folder("d"), link("d/a", "x/../../../b")]),
  "a link to nowhere": textOf([link("a", "")]),
  "a mode beyond permissions": textOf([{ ...file("a"), mode: 0o4755 } as StateEntry]),
  "a negative size": textOf([file("a", -1)]),
  "a size beyond what is exact": textOf([file("a", 2 ** 60)]),
  "sums that don't fit": textOf([file("a", 5)], { bytes: 4 }),
  "a hash that is none": textOf([{ ...file("a"), sha256: "x" } as StateEntry]),
  "a device": textOf([{ ...file("a"), kind: "device" } as unknown as StateEntry]),
  "a path that is too long": textOf([file("x".repeat(3_001))]),
};
for (const [what, text] of Object.entries(refused)) {
  test(`a manifest with ${what} is refused`, () => {
    assert.throws(
      () => parseManifest(text),
      (error) => error instanceof UsageError && error.code === "archive_damaged",
    );
  });
}

test("a manifest of a later version is said to be one, whatever else it holds", () => {
  assert.throws(
    () => parseManifest(JSON.stringify({ format: "openclaw tenant state", version: 2, shelves: [] })),
    (error) => error instanceof UsageError && error.code === "archive_too_new",
  );
});

const step = fc.constantFrom("a", "b", "..", ".", "", "c");
test("what passes as a path or a link stays within the state", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 6 }), fc.array(step, { maxLength: 6 }), (one, other) => {
      const at = one.join("/");
      if (pathProblem(at) !== undefined) return;
      assert.ok(path.posix.resolve("/state", at).startsWith("/state/"));
      const target = other.join("/");
      if (targetProblem({ path: at, target }) !== undefined) return;
      const end = path.posix.resolve("/state", path.posix.dirname(at), target);
      assert.ok(end === "/state" || end.startsWith("/state/"), `${at} -> ${target}`);
    }),
  );
});
