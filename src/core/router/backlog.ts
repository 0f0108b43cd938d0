import { sql } from "kysely";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import { findTenantsByChats } from "../tenants/tenants.ts";
import { findShardOwners, type ShardOwner } from "./shard-owners.ts";

/** All that is accepted and not finished, over all daemons, and what was given up. */
export type Backlog = {
  updates: number;
  lanes: number;
  /** Updates in the lane that has most. */
  deepest: number;
  oldestAcceptedAt: Date | null;
  deadLetters: number;
};

/** A lane with open updates. */
export type OpenLane = {
  lane: number;
  shard: number;
  depth: number;
  oldestAcceptedAt: Date;
  tenant: { id: TenantId; slug: string; status: string } | null;
  owner: ShardOwner | null;
};

/**
 * Lanes with their open updates, for a WITH clause. Written for the index on open rows: its cost is that of what is open,
 * whatever the number of finished ones. The first update of a lane is its oldest.
 */
const OPEN_LANES = sql`
  open_lanes AS (
    SELECT shard, lane, count(*)::integer AS depth, min(seq) AS first_seq
    FROM telegram_updates WHERE finished_at IS NULL GROUP BY shard, lane
  )`;

export async function readBacklog(db: Db): Promise<Backlog> {
  const { rows } = await sql<Backlog>`WITH ${OPEN_LANES}
    SELECT coalesce(sum(depth), 0)::integer AS updates, count(*)::integer AS lanes, coalesce(max(depth), 0) AS deepest,
      (SELECT accepted_at FROM (SELECT * FROM open_lanes ORDER BY first_seq LIMIT 1) AS oldest
       JOIN telegram_updates USING (shard, lane) WHERE finished_at IS NULL AND seq = first_seq) AS oldest_accepted_at,
      (SELECT count(*)::integer FROM telegram_dead_letters) AS dead_letters
    FROM open_lanes`.execute(db);
  const [backlog] = rows;
  if (backlog === undefined) throw new Error("an aggregate has one row");
  return backlog;
}

/** Lanes with open updates, the one that has waited longest first. */
export async function listOpenLanes(db: Db, limit: number): Promise<OpenLane[]> {
  const { rows } = await sql<Omit<OpenLane, "tenant" | "owner">>`WITH ${OPEN_LANES}
    SELECT lane, shard, depth, accepted_at AS oldest_accepted_at
    FROM (SELECT * FROM open_lanes ORDER BY first_seq LIMIT ${limit}) AS oldest
    JOIN telegram_updates USING (shard, lane)
    WHERE finished_at IS NULL AND seq = first_seq ORDER BY first_seq`.execute(db);
  const chats = rows.map((row) => row.lane);
  const tenants = new Map((await findTenantsByChats(db, chats)).map((tenant) => [tenant.telegramChatId, tenant]));
  const owners = await findShardOwners(
    db,
    rows.map((row) => row.shard),
  );
  return rows.map((row) => {
    const tenant = tenants.get(row.lane);
    return {
      ...row,
      tenant: tenant === undefined ? null : { id: tenant.id, slug: tenant.slug, status: tenant.status },
      owner: owners.get(row.shard) ?? null,
    };
  });
}
