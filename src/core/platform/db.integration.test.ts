import assert from "node:assert/strict";
import test from "node:test";
import { createTestDatabase } from "../testing/database.ts";
import { createPool } from "./db.ts";

test("a query that gets no answer fails, and its connection is given up for another", async (t) => {
  await using database = await createTestDatabase();
  const pool = createPool({
    url: database.url,
    max: 1,
    applicationName: "test",
    onIdleError: () => undefined,
    queryTimeoutMs: 200,
  });
  t.after(() => pool.end());
  const backend = async () => (await pool.query<{ pid: number }>("SELECT pg_backend_pid() AS pid")).rows[0]?.pid;
  const before = await backend();
  await assert.rejects(pool.query("SELECT pg_sleep(60)"), /timeout/);
  assert.notEqual(await backend(), before);
  await database.pool.query("SELECT pg_terminate_backend($1)", [before]);
});
