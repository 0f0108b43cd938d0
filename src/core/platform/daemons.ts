import type pg from "pg";
import type { DaemonId } from "./ids.ts";

/** A daemon that has been silent for so long is taken for dead, and its jobs are given to others. */
export const DAEMON_SILENCE_MS = 15_000;
const COUNT_KEPT_MS = 5_000;

export type DaemonSelf = {
  id: DaemonId;
  roles: readonly string[];
  version: string;
  build: string;
  host: string;
  pid: number;
  /** Names under which this daemon locks jobs. */
  workerIds: readonly string[];
  /** Where runtimes reach its gateways; undefined without that role. */
  gatewayUrl: string | undefined;
};

/** Says that this daemon lives. */
export async function heartbeat(pool: pg.Pool, self: DaemonSelf): Promise<void> {
  await pool.query(
    `INSERT INTO daemons (id, roles, version, build, host, pid, worker_ids, gateway_url) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
     ON CONFLICT (id) DO UPDATE SET seen_at = now(), worker_ids = excluded.worker_ids`,
    [self.id, self.roles, self.version, self.build, self.host, self.pid, self.workerIds, self.gatewayUrl ?? null],
  );
}

export type LiveDaemon = Pick<DaemonSelf, "id" | "roles" | "version" | "build" | "host" | "pid"> & { startedAt: Date };

/** Those that live, the oldest first. */
export async function listDaemons(pool: pg.Pool): Promise<LiveDaemon[]> {
  const { rows } = await pool.query<LiveDaemon>(
    `SELECT id, roles, version, build, host, pid, started_at AS "startedAt" FROM daemons
     WHERE seen_at > now() - $1 * interval '1 millisecond' ORDER BY started_at, id`,
    [DAEMON_SILENCE_MS],
  );
  return rows;
}

/**
 * The gateway that all runtimes use: that of the daemon that has lived longest, so that every daemon computes the same
 * specs and a newcomer moves nobody.
 */
export async function findGatewayUrl(pool: pg.Pool): Promise<string | undefined> {
  const { rows } = await pool.query<{ gateway_url: string }>(
    `SELECT gateway_url FROM daemons
     WHERE gateway_url IS NOT NULL AND seen_at > now() - $1 * interval '1 millisecond'
     ORDER BY started_at, id LIMIT 1`,
    [DAEMON_SILENCE_MS],
  );
  return rows[0]?.gateway_url;
}

/**
 * Gives back the jobs of daemons that died with them: by itself, the queue would wait four hours.
 * @returns the names of the workers that were freed of their jobs.
 */
export async function unlockJobsOfDeadDaemons(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ locked_by: string }>(
    `SELECT DISTINCT locked_by FROM graphile_worker._private_jobs AS job
     WHERE locked_by IS NOT NULL AND locked_at < now() - $1 * interval '1 millisecond' / 3
       AND NOT EXISTS (
         SELECT FROM daemons WHERE job.locked_by = ANY (worker_ids) AND seen_at > now() - $1 * interval '1 millisecond'
       )`,
    [DAEMON_SILENCE_MS],
  );
  const dead = rows.map((row) => row.locked_by);
  if (dead.length > 0) await pool.query("SELECT graphile_worker.force_unlock_workers($1::text[])", [dead]);
  return dead;
}

/**
 * Looks for jobs that `workerIds` have locked and that are not `underWay`, and gives back those that were `suspects` before.
 * @returns the ids of all that were found, and of those given back.
 */
export async function unlockLostJobs(
  pool: pg.Pool,
  { workerIds, underWay, suspects }: Record<"workerIds" | "underWay" | "suspects", readonly string[]>,
): Promise<{ lost: string[]; unlocked: string[] }> {
  const { rows } = await pool.query<{ id: string; unlocked: boolean }>(
    `WITH lost AS (
       SELECT id, job_queue_id FROM graphile_worker._private_jobs
       WHERE locked_by = ANY ($1) AND NOT id = ANY ($2::bigint[])
     ), unlocked AS (
       UPDATE graphile_worker._private_jobs AS job SET locked_at = NULL, locked_by = NULL
       FROM lost WHERE job.id = lost.id AND job.id = ANY ($3::bigint[])
       RETURNING job.id, job.job_queue_id
     ), queues AS (
       UPDATE graphile_worker._private_job_queues AS queue SET locked_at = NULL, locked_by = NULL
       FROM unlocked WHERE queue.id = unlocked.job_queue_id
     )
     SELECT id::text, id IN (SELECT id FROM unlocked) AS unlocked FROM lost`,
    [workerIds, underWay, suspects],
  );
  return { lost: rows.map(({ id }) => id), unlocked: rows.filter((row) => row.unlocked).map(({ id }) => id) };
}

/**
 * How many daemons live, for dividing limits among them: at least 1, some seconds old, and what was last known while the
 * database doesn't answer.
 */
export function createDaemonCount(pool: pg.Pool): () => Promise<number> {
  let known = 1;
  let askedAt = Number.NEGATIVE_INFINITY;
  let asking: Promise<void> | undefined;

  async function ask(): Promise<void> {
    try {
      const { rows } = await pool.query<{ live: number }>(
        "SELECT count(*)::int AS live FROM daemons WHERE seen_at > now() - $1 * interval '1 millisecond'",
        [DAEMON_SILENCE_MS],
      );
      known = Math.max(1, rows[0]?.live ?? 1);
    } catch {
      // The next one to ask tries again; a limit never fails for want of a count.
    }
  }

  return async () => {
    if (performance.now() - askedAt > COUNT_KEPT_MS) {
      askedAt = performance.now();
      asking = ask();
    }
    await asking;
    return known;
  };
}

/** Takes a daemon that ends off the list. */
export async function signOff(pool: pg.Pool, id: DaemonId): Promise<void> {
  await pool.query("DELETE FROM daemons WHERE id = $1", [id]);
}

/** Forgets daemons that ended without signing off. */
export async function forgetSilentDaemons(pool: pg.Pool): Promise<void> {
  await pool.query("DELETE FROM daemons WHERE seen_at < now() - interval '1 hour'");
}
