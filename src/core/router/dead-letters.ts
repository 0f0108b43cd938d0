import { sql } from "kysely";
import { writeAudit } from "../platform/audit.ts";
import { addMs, type Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { NotFoundError } from "../platform/errors.ts";
import { pruneRows } from "../platform/prune.ts";
import type { TenantId } from "../platform/ids.ts";
import type { TenantsContext } from "../tenants/tenants.ts";
import { HINT_CHANNEL } from "./inbox.ts";
import { parseUpdate, readFacts, shardOf } from "./update.ts";

/** What is known of an update that was given up; never what somebody wrote. */
export type DeadLetter = {
  id: number;
  updateId: number;
  botId: number;
  /** The chat, else the user. */
  lane: number;
  /** The lane's tenant when it was given up. */
  tenantId: TenantId | null;
  kind: string;
  userId: number | null;
  sentAt: Date | null;
  sizeBytes: number;
  reason: string;
  acceptedAt: Date;
  diedAt: Date;
};

/** Either these, or all that fit. */
export type Selection =
  | { ids: readonly number[] }
  | { tenantId?: TenantId | undefined; lane?: number | undefined; since?: Date | undefined };

/** What became of one item; "gone": somebody has replayed or dropped it before. */
export type ReplayOutcome = { kind: "replayed"; seq: number } | { kind: "gone" } | { kind: "superseded" };
export type DropOutcome = { kind: "dropped" } | { kind: "gone" };

function choose(db: Db, selection: Selection) {
  let query = db.selectFrom("telegramDeadLetters");
  if ("ids" in selection) return query.where(sql<boolean>`id = ANY (${selection.ids}::bigint[])`);
  if (selection.tenantId !== undefined) query = query.where("tenantId", "=", selection.tenantId);
  if (selection.lane !== undefined) query = query.where("lane", "=", selection.lane);
  return selection.since === undefined ? query : query.where("diedAt", ">=", selection.since);
}

const KEEP_MS = 30 * 24 * 3_600_000;

/** Forgets letters of more than 30 days ago: they hold what people wrote. */
export async function pruneDeadLetters(ctx: { db: Db; clock: Clock }, signal: AbortSignal): Promise<void> {
  await pruneRows(ctx.db, "telegramDeadLetters", sql`died_at < ${addMs(ctx.clock.now(), -KEEP_MS)}`, signal);
}

/** The newest `limit`, newest first, and how many there are. */
export async function listDeadLetters(
  db: Db,
  selection: Selection,
  limit: number,
): Promise<{ letters: DeadLetter[]; total: number }> {
  const total = await countDeadLetters(db, selection);
  const rows = await choose(db, selection).selectAll().orderBy("id", "desc").limit(limit).execute();
  return { letters: rows.map(toLetter), total };
}

export async function countDeadLetters(db: Db, selection: Selection): Promise<number> {
  const { count } = await choose(db, selection)
    .select((eb) => eb.fn.countAll<number>().as("count"))
    .executeTakeFirstOrThrow();
  return count;
}

/** Forgets every letter of a tenant that is purged. */
export async function forgetDeadLettersOf(db: Db, tenantId: TenantId): Promise<void> {
  await db.deleteFrom("telegramDeadLetters").where("tenantId", "=", tenantId).execute();
}

/** In their order of acceptance, so that replaying one after the other keeps it. */
export async function selectDeadLetters(db: Db, selection: Selection): Promise<number[]> {
  const rows = await choose(db, selection).select("id").orderBy("seq").execute();
  return rows.map((row) => row.id);
}

/** @throws NotFoundError. */
export async function getDeadLetter(db: Db, id: number): Promise<DeadLetter> {
  return toLetter(await getRow(db, id));
}

/** The update as it was received. Somebody's message: reading it leaves a line in the audit log (F91). @throws NotFoundError. */
export async function readDeadLetterBody(ctx: TenantsContext, id: number): Promise<Buffer> {
  return ctx.db.transaction().execute(async (tx) => {
    const { body, tenantId, updateId } = await getRow(tx, id);
    await audit(tx, ctx, "dead-letter.read", { id, tenantId, updateId });
    return body;
  });
}

async function getRow(db: Db, id: number) {
  const row = await db.selectFrom("telegramDeadLetters").selectAll().where("id", "=", id).executeTakeFirst();
  if (row !== undefined) return row;
  throw new NotFoundError("dead_letter_not_found", `No dead letter ${id}. See: openclaw route dead-letters list`);
}

/**
 * Accepts the update anew, now and behind whatever its lane has open; the letter is gone with that commit. Of two calls at
 * once one replays and the other finds it gone. A runtime that took the update before ignores it by its update id.
 * "superseded": Telegram has used the update id for something newer, which is still remembered (48 h); the letter stays.
 */
export async function replayDeadLetter(ctx: TenantsContext, id: number, reason?: string): Promise<ReplayOutcome> {
  return ctx.db.transaction().execute(async (tx) => {
    const letter = await lockLetter(tx, id);
    if (letter === undefined) return { kind: "gone" };
    const { botId, updateId, lane, tenantId, body } = letter;
    // The finished row that holds its place in the key. Anything else with this update id has another `seq`.
    await tx
      .deleteFrom("telegramUpdates")
      .where("botId", "=", botId)
      .where("updateId", "=", updateId)
      .where("seq", "=", letter.seq)
      .execute();
    const shard = shardOf(lane);
    const accepted = await tx
      .insertInto("telegramUpdates")
      // An operator's word is not the chat's haste: it does not count against the rate limit.
      .values({ botId, updateId, lane, shard, body, acceptedAt: ctx.clock.now(), withinLimit: true })
      .onConflict((conflict) => conflict.columns(["botId", "updateId"]).doNothing())
      .returning("seq")
      .executeTakeFirst();
    if (accepted === undefined) return { kind: "superseded" };
    await tx.deleteFrom("telegramDeadLetters").where("id", "=", id).execute();
    await sql`SELECT pg_notify(${HINT_CHANNEL}, ${String(shard)})`.execute(tx);
    await audit(tx, ctx, "dead-letter.replayed", { id, tenantId, updateId, reason });
    return { kind: "replayed", seq: accepted.seq };
  });
}

/** Forgets an update for good. */
export async function dropDeadLetter(ctx: TenantsContext, id: number, reason?: string): Promise<DropOutcome> {
  return ctx.db.transaction().execute(async (tx) => {
    const letter = await lockLetter(tx, id);
    if (letter === undefined) return { kind: "gone" };
    const { tenantId, updateId } = letter;
    await tx.deleteFrom("telegramDeadLetters").where("id", "=", id).execute();
    await audit(tx, ctx, "dead-letter.dropped", { id, tenantId, updateId, reason });
    return { kind: "dropped" };
  });
}

/** Undefined too when whoever held the lock has deleted it. */
function lockLetter(db: Db, id: number) {
  return db.selectFrom("telegramDeadLetters").selectAll().where("id", "=", id).forUpdate().executeTakeFirst();
}

async function audit(
  db: Db,
  { clock, actor }: TenantsContext,
  action: string,
  what: { id: number; tenantId: TenantId | null; updateId: number; reason?: string | undefined },
): Promise<void> {
  const { id, tenantId, updateId, reason } = what;
  await writeAudit(db, {
    at: clock.now(),
    actor,
    action,
    ...(tenantId === null ? {} : { tenantId }),
    reason,
    detail: { deadLetter: id, updateId },
  });
}

type Row = Awaited<ReturnType<typeof getRow>>;

function toLetter({ body, seq: _seq, ...row }: Row): DeadLetter {
  const { kind, userId, sentAt } = readFacts(parseUpdate(body));
  return { ...row, kind, userId: userId ?? null, sentAt: sentAt ?? null, sizeBytes: body.length };
}
