import { sql } from "kysely";
import type { Db } from "../platform/db.ts";
import type { DaemonId } from "../platform/ids.ts";

/** Who works on a shard, and under which lease. */
export type ShardOwner = {
  shard: number;
  epoch: number;
  daemonId: DaemonId;
  /** Null when the daemon is no longer on the list of those that live. */
  host: string | null;
  pid: number | null;
  expiresAt: Date;
  /** False: the lease has run out, whoever is first takes the shard over. */
  live: boolean;
};

/** The owners of those of `shards` that have one. */
export async function findShardOwners(db: Db, shards: readonly number[]): Promise<Map<number, ShardOwner>> {
  const { rows } = await sql<ShardOwner>`
    SELECT shard, epoch, owner AS daemon_id, host, pid, expires_at, expires_at > now() AS live
    FROM router_shards LEFT JOIN daemons ON daemons.id = owner
    WHERE owner IS NOT NULL AND shard = ANY (${shards}::smallint[])`.execute(db);
  return new Map(rows.map((row) => [row.shard, row]));
}
