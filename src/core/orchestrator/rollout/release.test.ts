import assert from "node:assert/strict";
import test from "node:test";
import { changeContent, checkImage, isSameContent } from "./release.ts";

const DIGEST = `sha256:${"a1".repeat(32)}`;

test("an image is named for good: by a tag other than latest, or by a digest", () => {
  for (const image of [
    "openclaw:1",
    "ghcr.io/openclaw/openclaw:2026.9.6",
    "localhost:5000/openclaw:v1.2-rc_3",
    `registry.example.com:443/a/b__c/d@${DIGEST}`,
    `openclaw:latest@${DIGEST}`,
  ])
    checkImage(image);
  for (const image of ["openclaw", "openclaw:latest", "localhost:5000/openclaw", "ghcr.io/openclaw/openclaw"])
    assert.throws(() => checkImage(image), { code: "image_not_immutable", message: /tag/ }, image);
});

test("what is no image reference is refused with an example", () => {
  const malformed = [
    "",
    ":1",
    "Open Claw:1",
    "openclaw:",
    "openclaw:a/b:c",
    "openclaw:1@sha256:12",
    `a@${DIGEST}@${DIGEST}`,
  ];
  for (const image of [...malformed, "https://ghcr.io/openclaw:1", "-x:1", "a:1\n", `a:${"x".repeat(129)}`])
    assert.throws(() => checkImage(image), { code: "image_invalid", message: /looks like/ }, image);
});

test("a release is changed in what is named, and the order of models counts", () => {
  const base = { image: "openclaw:1", modelsByTier: { basic: ["a"], plus: ["b", "a"] } };
  const changed = changeContent(base, { basic: ["c"] });
  assert.deepEqual(changed, { image: "openclaw:1", modelsByTier: { basic: ["c"], plus: ["b", "a"] } });
  assert.ok(isSameContent(base, changeContent(base, {})));
  assert.ok(!isSameContent(base, changeContent(base, { plus: ["a", "b"] })));
});
