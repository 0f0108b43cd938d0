import assert from "node:assert/strict";
import test from "node:test";
import { failed, ok, runChecks } from "./check.ts";

test("checks run at once, each within its time, and what one throws is what failed", async () => {
  const entered = Promise.withResolvers<void>();
  const results = await runChecks([
    { name: "waits for the next", run: () => entered.promise.then(() => ok("fine")) },
    { name: "hangs", timeoutMs: 20, run: () => new Promise<never>(() => entered.resolve()) },
    { name: "throws", run: () => Promise.reject(new Error("out of order")) },
    { name: "finds", run: async () => failed("empty", "Fill it.") },
  ]);
  assert.deepEqual(results, [
    { name: "waits for the next", status: "ok", message: "fine" },
    { name: "hangs", status: "failed", message: "no answer within 0.02 s" },
    { name: "throws", status: "failed", message: "out of order" },
    { name: "finds", status: "failed", message: "empty", remedy: "Fill it." },
  ]);
});
