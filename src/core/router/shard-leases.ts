import type pg from "pg";
import type { DaemonId } from "../platform/ids.ts";
import { SHARD_COUNT } from "./update.ts";

/** How long a shard stays with an owner that has gone silent. */
export const LEASE_MS = 6_000;

/** A shard held, and the epoch that proves it. */
export type Lease = { shard: number; epoch: number };

/**
 * Extends what `owner` still holds and takes free or expired shards up to its fair share among the daemons that work.
 * @returns everything held now, and how many more than the fair share that is.
 */
export async function renewLeases(pool: pg.Pool, owner: DaemonId): Promise<{ held: Lease[]; excess: number }> {
  const held = await extendLeases(pool, owner);
  const share = await fairShare(pool);
  const missing = share - held.length;
  const taken = missing > 0 ? await takeFree(pool, owner, missing) : [];
  return { held: [...held, ...taken], excess: Math.max(0, -missing) };
}

/** Extends what `owner` still holds, and takes nothing. */
export async function extendLeases(pool: pg.Pool, owner: DaemonId): Promise<Lease[]> {
  const { rows } = await pool.query<Lease>(
    `UPDATE router_shards SET expires_at = now() + $2 * interval '1 millisecond'
     WHERE owner = $1 AND expires_at > now() RETURNING shard, epoch`,
    [owner, LEASE_MS],
  );
  return rows;
}

async function fairShare(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ workers: number }>(
    `SELECT count(*)::integer AS workers FROM daemons
     WHERE 'worker' = ANY (roles) AND seen_at > now() - $1 * interval '1 millisecond'`,
    [LEASE_MS],
  );
  return Math.ceil(SHARD_COUNT / Math.max(1, rows[0]?.workers ?? 1));
}

async function takeFree(pool: pg.Pool, owner: DaemonId, count: number): Promise<Lease[]> {
  const { rows } = await pool.query<Lease>(
    `UPDATE router_shards SET owner = $1, epoch = epoch + 1, expires_at = now() + $2 * interval '1 millisecond'
     WHERE shard IN (
       SELECT shard FROM router_shards WHERE owner IS NULL OR expires_at <= now()
       ORDER BY shard LIMIT $3 FOR UPDATE SKIP LOCKED
     ) RETURNING shard, epoch`,
    [owner, LEASE_MS, count],
  );
  return rows;
}

/** Gives shards back at once, so that others need not wait for the leases to run out. */
export async function releaseLeases(pool: pg.Pool, owner: DaemonId, shards: readonly number[]): Promise<void> {
  await pool.query(
    `UPDATE router_shards SET owner = NULL, expires_at = NULL WHERE owner = $1 AND shard = ANY ($2::smallint[])`,
    [owner, shards],
  );
}

export async function releaseAll(pool: pg.Pool, owner: DaemonId): Promise<void> {
  await pool.query("UPDATE router_shards SET owner = NULL, expires_at = NULL WHERE owner = $1", [owner]);
}
