import type pg from "pg";
import type { Db } from "../platform/db.ts";
import type { DaemonId, TenantId } from "../platform/ids.ts";

/** An update to be accepted. */
export type Incoming = { updateId: number; lane: number; shard: number; body: Buffer };

/** Updates accepted together. */
export type Batch = {
  botId: number;
  acceptedAt: Date;
  items: readonly Incoming[];
  /** Shards whose owners, in other processes, are to be told when this is committed. */
  hint: readonly number[];
};

/** The channel on which acceptors tell the owners of shards that there is something new. */
export const HINT_CHANNEL = "openclaw_router";

/** An accepted update that is not finished. `seq` is the order of acceptance. */
export type Entry = {
  seq: number;
  botId: number;
  updateId: number;
  lane: number;
  shard: number;
  body: Buffer;
  acceptedAt: Date;
  /** The rate limit's verdict, once it has been stored. */
  withinLimit?: boolean | undefined;
  /** `performance.now()` after its commit, when that was this process's. */
  committedAt?: number;
};

export type Outcome = "delivered" | "answered" | "ignored" | "dropped" | "dead";
export type Finish = {
  seq: number;
  lane: number;
  shard: number;
  epoch: number;
  outcome: Outcome;
  reason: string | null;
  tenantId: TenantId | null;
};

/** `behind`: the newest update of its lane that was open before the batch. */
type Accepted = { seq: number; behind: number | undefined };

/**
 * Inserts a batch in one commit, in the order given. With `duplicates: "fail"` nothing is inserted if any of it was there
 * before, which spares PostgreSQL a look for each row.
 * @returns for each item where it stands, or undefined for one that was there before.
 * @throws a unique violation, see `isUniqueViolation`.
 */
export async function insertUpdates(
  pool: pg.Pool,
  batch: Batch,
  duplicates: "skip" | "fail",
): Promise<(Accepted | undefined)[]> {
  const { botId, acceptedAt, items, hint } = batch;
  let offset = 1;
  const starts = items.map(({ body }) => {
    const start = offset;
    offset += body.length;
    return start;
  });
  const result = await pool.query<[updateIds: string | null, seqs: string | null, behinds: string | null]>({
    name: `insert-updates-${duplicates}`,
    rowMode: "array",
    // The result as three texts: a row for each update takes node longer. The hint goes with the commit that it tells of,
    // and is not sent when everything was there before.
    text: `WITH accepted AS (
        INSERT INTO telegram_updates (bot_id, update_id, lane, shard, body, accepted_at)
        SELECT $1, update_id, lane, shard, substring($2::bytea FROM start FOR size), $3
        FROM unnest($4::bigint[], $5::bigint[], $6::smallint[], $7::integer[], $8::integer[])
          WITH ORDINALITY AS item (update_id, lane, shard, start, size, place)
        ORDER BY place
        ${duplicates === "skip" ? "ON CONFLICT (bot_id, update_id) DO NOTHING" : ""}
        RETURNING update_id, seq, (
          SELECT max(open.seq) FROM telegram_updates AS open WHERE open.finished_at IS NULL
            AND open.shard = telegram_updates.shard AND open.lane = telegram_updates.lane
        ) AS behind
      )
      SELECT array_agg(update_id)::text, array_agg(seq)::text, array_agg(behind)::text,
        CASE WHEN $9 <> '' AND count(*) > 0 THEN pg_notify('${HINT_CHANNEL}', $9) END
      FROM accepted`,
    values: [
      botId,
      // One binary parameter with all bodies: an array of bytea would be sent as text, twice the size and far slower.
      Buffer.concat(items.map((item) => item.body)),
      acceptedAt,
      integers(items.map((item) => item.updateId)),
      integers(items.map((item) => item.lane)),
      integers(items.map((item) => item.shard)),
      integers(starts),
      integers(items.map((item) => item.body.length)),
      hint.join(","),
    ],
  });
  const [updateIds, seqs, behinds] = (result.rows[0] ?? []).map(parseIntegers);
  const inserted = new Map(
    updateIds?.map((updateId, index) => [updateId, { seq: seqs?.[index] ?? 0, behind: behinds?.[index] || undefined }]),
  );
  return items.map(({ updateId }) => {
    const accepted = inserted.get(updateId);
    // A second copy in the same batch is a duplicate of the first.
    inserted.delete(updateId);
    return accepted;
  });
}

/** The elements of an array's text, NULL as not a number; none of an array that is NULL. */
function parseIntegers(text: string | null): number[] {
  return text === null ? [] : text.slice(1, -1).split(",").map(Number);
}

/** An array parameter; the driver's own way escapes every element. */
function integers(values: readonly number[]): string {
  return `{${values.join(",")}}`;
}

/** A lane with unfinished updates: how many, and the newest of them. */
export type OpenLane = { shard: number; lane: number; updates: number; newest: number };

/** The lanes of the shards that have anything to be done; reads an index only. */
export async function findOpenLanes(pool: pg.Pool, shards: readonly number[]): Promise<OpenLane[]> {
  const result = await pool.query<OpenLane>({
    name: "find-open-lanes",
    text: `SELECT shard, lane, count(*)::integer AS updates, max(seq) AS newest FROM telegram_updates
      WHERE finished_at IS NULL AND shard = ANY ($1::smallint[]) GROUP BY shard, lane`,
    values: [shards],
  });
  return result.rows;
}

export type LaneKey = { shard: number; lane: number; limit: number };

/** The oldest unfinished updates of each of the lanes, at most its `limit`, in order of acceptance. */
export async function loadLanes(pool: pg.Pool, lanes: readonly LaneKey[]): Promise<Entry[][]> {
  const result = await pool.query({
    name: "load-lanes",
    text: `SELECT place, seq, bot_id, update_id, lane, shard, body, accepted_at, within_limit
      FROM unnest($1::smallint[], $2::bigint[], $3::integer[]) WITH ORDINALITY AS wanted (shard, lane, size, place)
      CROSS JOIN LATERAL (
        SELECT seq, bot_id, update_id, body, accepted_at, within_limit FROM telegram_updates AS open
        WHERE open.finished_at IS NULL AND open.shard = wanted.shard AND open.lane = wanted.lane
        ORDER BY seq LIMIT wanted.size
      ) AS oldest ORDER BY place, seq`,
    values: [
      integers(lanes.map((lane) => lane.shard)),
      integers(lanes.map((lane) => lane.lane)),
      integers(lanes.map((lane) => lane.limit)),
    ],
  });
  const found = Map.groupBy(result.rows, (row) => Number(row.place));
  return lanes.map((_lane, index) => (found.get(index + 1) ?? []).map(toEntry));
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
    withinLimit: (row["within_limit"] as boolean | null) ?? undefined,
  };
}

/**
 * Finishes updates in one commit, each only while `owner` still holds its shard under the epoch it was taken with: the
 * fence. Dead ones are copied to the dead letters in the same statement, and chats heard from are no longer closed. One
 * that is finished already stays as it is.
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
        SELECT item.* FROM unnest($3::bigint[], $4::bigint[], $5::smallint[], $6::bigint[], $7::text[], $8::text[], $9::uuid[])
          AS item (seq, lane, shard, epoch, outcome, reason, tenant_id)
        JOIN router_shards USING (shard, epoch) WHERE router_shards.owner = $1
      ), done AS (
        UPDATE telegram_updates AS open
        SET outcome = held.outcome, reason = held.reason, tenant_id = held.tenant_id, finished_at = $2
        FROM held
        WHERE open.finished_at IS NULL AND open.shard = held.shard AND open.lane = held.lane AND open.seq = held.seq
        RETURNING open.*
      ), dead AS (
        INSERT INTO telegram_dead_letters (seq, bot_id, update_id, lane, tenant_id, body, reason, accepted_at, died_at)
        SELECT seq, bot_id, update_id, lane, tenant_id, body, coalesce(reason, 'unknown'), accepted_at, finished_at
        FROM done WHERE outcome = 'dead'
      ), heard AS (
        DELETE FROM telegram_closed_chats AS closed USING done
        WHERE closed.chat_id = done.lane AND closed.closed_at < done.accepted_at
      )
      SELECT seq FROM held`,
    values: [
      owner,
      at,
      integers(items.map((item) => item.seq)),
      integers(items.map((item) => item.lane)),
      integers(items.map((item) => item.shard)),
      integers(items.map((item) => item.epoch)),
      items.map((item) => item.outcome),
      items.map((item) => item.reason),
      items.map((item) => item.tenantId),
    ],
  });
  const passed = new Set(result.rows.map((row) => row.seq));
  return items.map((item) => passed.has(item.seq));
}

/** Keeps the rate limit's verdict on an update that has to wait, so that whoever takes its lane over does not count it again. */
export async function storeVerdict(db: Db, { shard, lane, seq }: Entry, withinLimit: boolean): Promise<void> {
  await db
    .updateTable("telegramUpdates")
    .set({ withinLimit })
    .where("shard", "=", shard)
    .where("lane", "=", lane)
    .where("seq", "=", seq)
    .where("finishedAt", "is", null)
    .execute();
}

/**
 * Deletes updates finished before `before`, at most `limit` of them, the longest finished first.
 * @returns how many, and when the last of them was finished: the next call looks from there on, past what is dead but not
 * yet vacuumed.
 */
export async function pruneUpdates(
  pool: pg.Pool,
  range: { from: Date; before: Date },
  limit: number,
): Promise<{ pruned: number; until: Date }> {
  const { rows } = await pool.query<{ pruned: number; until: Date | null }>({
    name: "prune-updates",
    text: `WITH old AS (
        SELECT bot_id, update_id FROM telegram_updates
        WHERE finished_at >= $1 AND finished_at < $2 ORDER BY finished_at LIMIT $3
      ), gone AS (
        DELETE FROM telegram_updates USING old
        WHERE telegram_updates.bot_id = old.bot_id AND telegram_updates.update_id = old.update_id
        RETURNING finished_at
      )
      SELECT count(*)::integer AS pruned, max(finished_at) AS until FROM gone`,
    values: [range.from, range.before, limit],
  });
  return { pruned: rows[0]?.pruned ?? 0, until: rows[0]?.until ?? range.from };
}
