import assert from "node:assert/strict";
import { test } from "node:test";
import { createTestDatabase } from "../testing/database.ts";
import { withAdvisoryLock } from "./advisory-lock.ts";
import { createPool } from "./db.ts";

const busy = () => new Error("busy");

test("who waits for a connection waits no longer than its patience and is told that it is busy, as who waits for the lock", async (t) => {
  await using database = await createTestDatabase();
  const pool = createPool({ url: database.url, max: 1, applicationName: "locks", onIdleError: () => undefined });
  t.after(() => pool.end());
  const ended = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const holder = withAdvisoryLock(pool, "stamp", { patienceMs: 0, busy }, async () => {
    begun.resolve();
    await ended.promise;
    return "held";
  });
  await begun.promise;
  const waiter = withAdvisoryLock(pool, "stamp", { patienceMs: 300, busy }, async () => "never");
  await assert.rejects(waiter, /^Error: busy$/);
  const stopping = new AbortController();
  const stopped = withAdvisoryLock(
    pool,
    "stamp",
    { patienceMs: 60_000, busy, signal: stopping.signal },
    async () => "",
  );
  stopping.abort(new Error("stopped"));
  await assert.rejects(stopped, /^Error: stopped$/);
  const patient = withAdvisoryLock(pool, "stamp", { patienceMs: 60_000, busy }, async () => "next");
  ended.resolve();
  assert.deepEqual(await Promise.all([holder, patient]), ["held", "next"]);
});
