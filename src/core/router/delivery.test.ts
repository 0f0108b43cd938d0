import assert from "node:assert/strict";
import test from "node:test";
import { classify } from "./delivery.ts";

test("only 200 with durable acceptance counts as delivered (F17, F18)", () => {
  assert.deepEqual(classify(200, "durable"), { kind: "delivered" });
  for (const [status, accepted] of [
    [200, undefined],
    [200, "queued"],
    [204, "durable"],
    [301, "durable"],
    [502, undefined],
  ] as const) {
    assert.equal(classify(status, accepted).kind, "unavailable", `${status} ${accepted}`);
  }
});

test("what a runtime refuses for good is told from what may pass (F11)", () => {
  assert.deepEqual(classify(400, undefined), { kind: "rejected", status: 400 });
  assert.deepEqual(classify(413, undefined), { kind: "rejected", status: 413 });
  assert.deepEqual(classify(500, undefined), { kind: "broke" });
  assert.deepEqual(classify(401, undefined), { kind: "unauthorized" });
});
