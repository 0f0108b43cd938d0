import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "kysely";
import { createTestDatabase } from "../testing/database.ts";
import { enqueueJob } from "./jobs.ts";

test("a waiting job stays as urgent as the most urgent of those who asked for it, whoever asks next", async () => {
  await using database = await createTestDatabase();
  const enqueue = (options: Parameters<typeof enqueueJob>[3]) =>
    enqueueJob(database.db, "sweep.idle", {}, { key: "one", ...options });
  const waiting = async () => {
    const { rows } = await sql<{ priority: number; soon: boolean }>`
      SELECT priority, run_at < now() + interval '1 minute' AS soon FROM graphile_worker.jobs ORDER BY id`.execute(
      database.db,
    );
    return rows;
  };
  await enqueue({ delayMs: 3_600_000 });
  assert.deepEqual(await waiting(), [{ priority: 0, soon: false }]);
  await enqueue({ priority: -20, keepsTime: true });
  assert.deepEqual(await waiting(), [{ priority: -20, soon: false }]);
  await enqueue({ keepsTime: true });
  await enqueue({ priority: 20 });
  assert.deepEqual(await waiting(), [{ priority: -20, soon: true }]);
  // One that runs has been heard; the next is a job of its own.
  await sql`UPDATE graphile_worker._private_jobs SET locked_at = now(), locked_by = 'a worker'`.execute(database.db);
  await enqueue({ priority: 20 });
  assert.deepEqual(await waiting(), [
    { priority: -20, soon: true },
    { priority: 20, soon: true },
  ]);
});
