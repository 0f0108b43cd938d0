import type pg from "pg";
import { pause } from "./pause.ts";

const POLL_MS = 100;

/**
 * Runs `work` while nobody else, in whatever process, runs any under the same `key`. The lock is a session's, outside of any
 * transaction: it holds one connection of `pool` for as long, and ends with the process. What does not get it in `patienceMs` throws
 * what `busy` gives.
 */
export async function withAdvisoryLock<Result>(
  pool: pg.Pool,
  key: string,
  { patienceMs, busy, signal }: { patienceMs: number; busy: () => Error; signal?: AbortSignal | undefined },
  work: () => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect();
  let isSound = false;
  try {
    const deadline = performance.now() + patienceMs;
    while (!(await tryLock(client, key))) {
      signal?.throwIfAborted();
      if (performance.now() >= deadline) {
        isSound = true;
        throw busy();
      }
      await pause(POLL_MS, signal ?? new AbortController().signal);
    }
    const result = await work();
    await client.query("SELECT pg_advisory_unlock(hashtextextended($1, 0))", [key]);
    isSound = true;
    return result;
  } finally {
    // Closing the connection lets go of the lock, whatever became of the work.
    client.release(!isSound);
  }
}

async function tryLock(client: pg.PoolClient, key: string): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>(
    "SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS locked",
    [key],
  );
  return rows[0]?.locked === true;
}
