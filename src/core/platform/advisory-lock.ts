import type pg from "pg";
import { pause } from "./pause.ts";

const POLL_MS = 100;

/**
 * Runs `work` while nobody else, in whatever process, runs any under the same `key`. The lock is a session's, outside of any
 * transaction: it holds one connection of `pool` for as long, and ends with the process. What does not get it, or a connection, in
 * `patienceMs` throws what `busy` gives.
 */
export async function withAdvisoryLock<Result>(
  pool: pg.Pool,
  key: string,
  { patienceMs, busy, signal }: { patienceMs: number; busy: () => Error; signal?: AbortSignal | undefined },
  work: () => Promise<Result>,
): Promise<Result> {
  const deadline = performance.now() + patienceMs;
  const wait = async () => {
    signal?.throwIfAborted();
    if (performance.now() >= deadline) throw busy();
    await pause(POLL_MS, signal ?? new AbortController().signal);
  };
  // The pool's own patience is another, and what it throws looks like a database that is gone.
  while (isTaken(pool)) await wait();
  const client = await pool.connect();
  let isSound = false;
  try {
    while (!(await tryLock(client, key))) {
      // What has no lock leaves nothing behind.
      isSound = true;
      await wait();
      isSound = false;
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

/** Whether every connection that the pool may have is in use, or spoken for. */
function isTaken({ options, totalCount, idleCount, waitingCount }: pg.Pool): boolean {
  return options.max - totalCount + idleCount <= waitingCount;
}

async function tryLock(client: pg.PoolClient, key: string): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>(
    "SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS locked",
    [key],
  );
  return rows[0]?.locked === true;
}
