import type pg from "pg";
import type { DaemonId, TenantId } from "../platform/ids.ts";

/** An update to be accepted. */
export type Incoming = { botId: number; updateId: number; lane: number; shard: number; body: Buffer; acceptedAt: Date };

/** An accepted update that is not finished. `seq` is the order of acceptance. */
export type Entry = {
  seq: number;
  botId: number;
  updateId: number;
  lane: number;
  shard: number;
  body: Buffer;
  acceptedAt: Date;
};

export type Outcome = "delivered" | "answered" | "ignored" | "dropped" | "dead";
export type Finish = {
  seq: number;
  shard: number;
  epoch: number;
  outcome: Outcome;
  reason: string | null;
  tenantId: TenantId | null;
};

/** `behind`: the newest update of its lane that was open before the batch. */
type Accepted = { seq: number; behind: number | undefined };

/**
 * Inserts a batch in one commit, in the order given.
 * @returns for each item where it stands, or undefined for one that was there before.
 */
export async function insertUpdates(pool: pg.Pool, items: readonly Incoming[]): Promise<(Accepted | undefined)[]> {
  // One binary parameter with all bodies: an array of bytea would be sent as text, twice the size and far slower.
  const bodies = Buffer.concat(items.map((item) => item.body));
  let offset = 1;
  const offsets = items.map((item) => {
    const start = offset;
    offset += item.body.length;
    return start;
  });
  const result = await pool.query<{ seq: number; bot_id: number; update_id: number; behind: number | null }>({
    name: "insert-updates",
    text: `INSERT INTO telegram_updates (bot_id, update_id, lane, shard, body, accepted_at)
      SELECT bot_id, update_id, lane, shard, substring($1::bytea FROM start FOR size), accepted_at
      FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::integer[], $7::integer[], $8::timestamptz[])
        WITH ORDINALITY AS item (bot_id, update_id, lane, shard, start, size, accepted_at, place)
      ORDER BY place
      ON CONFLICT (bot_id, update_id) DO NOTHING
      RETURNING seq, bot_id, update_id, (
        SELECT max(open.seq) FROM telegram_updates AS open WHERE open.finished_at IS NULL
          AND open.shard = telegram_updates.shard AND open.lane = telegram_updates.lane
      ) AS behind`,
    values: [
      bodies,
      items.map((item) => item.botId),
      items.map((item) => item.updateId),
      items.map((item) => item.lane),
      items.map((item) => item.shard),
      offsets,
      items.map((item) => item.body.length),
      items.map((item) => item.acceptedAt),
    ],
  });
  const inserted = new Map(
    result.rows.map(({ bot_id, update_id, seq, behind }) => [
      `${bot_id}:${update_id}`,
      { seq, behind: behind ?? undefined },
    ]),
  );
  return items.map((item) => {
    const key = `${item.botId}:${item.updateId}`;
    const accepted = inserted.get(key);
    // A second copy in the same batch is a duplicate of the first.
    inserted.delete(key);
    return accepted;
  });
}

/** The oldest `perLane` unfinished updates of every lane of the shards, in order of acceptance. */
export async function loadShards(pool: pg.Pool, shards: readonly number[], perLane: number): Promise<Entry[]> {
  const result = await pool.query({
    name: "load-shards",
    text: `SELECT seq, bot_id, update_id, lane, shard, body, accepted_at FROM (
        SELECT *, row_number() OVER (PARTITION BY shard, lane ORDER BY seq) AS place
        FROM telegram_updates WHERE finished_at IS NULL AND shard = ANY ($1::smallint[])
      ) AS open WHERE place <= $2 ORDER BY seq`,
    values: [shards, perLane],
  });
  return result.rows.map(toEntry);
}

/** The oldest unfinished updates of one lane that were accepted after `afterSeq`. */
export async function loadLane(
  pool: pg.Pool,
  shard: number,
  lane: number,
  afterSeq: number,
  limit: number,
): Promise<Entry[]> {
  const result = await pool.query({
    name: "load-lane",
    text: `SELECT seq, bot_id, update_id, lane, shard, body, accepted_at FROM telegram_updates
      WHERE finished_at IS NULL AND shard = $1 AND lane = $2 AND seq > $3 ORDER BY seq LIMIT $4`,
    values: [shard, lane, afterSeq, limit],
  });
  return result.rows.map(toEntry);
}

function toEntry(row: Record<string, unknown>): Entry {
  return {
    seq: row["seq"] as number,
    botId: row["bot_id"] as number,
    updateId: row["update_id"] as number,
    lane: row["lane"] as number,
    shard: row["shard"] as number,
    body: row["body"] as Buffer,
    acceptedAt: row["accepted_at"] as Date,
  };
}

/**
 * Finishes updates in one commit, each only while `owner` still holds its shard under the epoch it was taken with: the
 * fence. Dead ones are copied to the dead letters in the same statement. One that is finished already stays as it is.
 * @returns for each item whether the fence let it pass.
 */
export async function finishUpdates(
  pool: pg.Pool,
  owner: DaemonId,
  at: Date,
  items: readonly Finish[],
): Promise<boolean[]> {
  const result = await pool.query<{ seq: number }>({
    name: "finish-updates",
    text: `WITH held AS (
        SELECT item.* FROM unnest($3::bigint[], $4::smallint[], $5::bigint[], $6::text[], $7::text[], $8::uuid[])
          AS item (seq, shard, epoch, outcome, reason, tenant_id)
        JOIN router_shards USING (shard, epoch) WHERE router_shards.owner = $1
      ), done AS (
        UPDATE telegram_updates AS open
        SET outcome = held.outcome, reason = held.reason, tenant_id = held.tenant_id, finished_at = $2
        FROM held WHERE open.seq = held.seq AND open.finished_at IS NULL
        RETURNING open.*
      ), dead AS (
        INSERT INTO telegram_dead_letters (seq, bot_id, update_id, lane, tenant_id, body, reason, accepted_at, died_at)
        SELECT seq, bot_id, update_id, lane, tenant_id, body, coalesce(reason, 'unknown'), accepted_at, finished_at
        FROM done WHERE outcome = 'dead'
      )
      SELECT seq FROM held`,
    values: [
      owner,
      at,
      items.map((item) => item.seq),
      items.map((item) => item.shard),
      items.map((item) => item.epoch),
      items.map((item) => item.outcome),
      items.map((item) => item.reason),
      items.map((item) => item.tenantId),
    ],
  });
  const passed = new Set(result.rows.map((row) => row.seq));
  return items.map((item) => passed.has(item.seq));
}

/** Deletes updates finished before `before`, at most `limit` of them. @returns how many. */
export async function pruneUpdates(pool: pg.Pool, before: Date, limit: number): Promise<number> {
  const result = await pool.query(
    `DELETE FROM telegram_updates WHERE seq IN (SELECT seq FROM telegram_updates WHERE finished_at < $1 LIMIT $2)`,
    [before, limit],
  );
  return result.rowCount ?? 0;
}
