import { sql } from "kysely";
import { type Actor, writeAudit } from "../platform/audit.ts";
import { addMs, type Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { NotFoundError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { enqueueJob } from "../platform/jobs.ts";
import { pruneRows } from "../platform/prune.ts";
import type { StripeEventRow } from "./store.ts";

export const EVENT_STATUSES = ["pending", "projected", "ignored", "unmatched", "failed"] as const;
export type EventStatus = (typeof EVENT_STATUSES)[number];

/** What is known of an event, without its payload: that holds names and addresses of people. */
export type LedgerEvent = Omit<StripeEventRow, "payload" | "nextAttemptAt">;

/** Either these, or all that fit; `since` and `until` are about when they were received. */
export type EventSelection =
  | { ids: readonly string[] }
  | {
      tenantId?: TenantId | undefined;
      type?: string | undefined;
      status?: EventStatus | undefined;
      since?: Date | undefined;
      until?: Date | undefined;
    };

const COLUMNS = [
  "id",
  "type",
  "apiVersion",
  "createdAt",
  "lane",
  "receivedAt",
  "status",
  "tenantId",
  "attempts",
  "lastError",
  "finishedAt",
] as const;

const KEEP_MS = 90 * 86_400_000;

function choose(db: Db, selection: EventSelection) {
  let query = db.selectFrom("stripeEvents");
  if ("ids" in selection) return query.where(sql<boolean>`id = ANY (${selection.ids})`);
  const { tenantId, type, status, since, until } = selection;
  if (tenantId !== undefined) query = query.where("tenantId", "=", tenantId);
  if (type !== undefined) query = query.where("type", "=", type);
  if (status !== undefined) query = query.where("status", "=", status);
  if (since !== undefined) query = query.where("receivedAt", ">=", since);
  return until === undefined ? query : query.where("receivedAt", "<", until);
}

/** The newest `limit`, newest first, and how many there are. */
export async function listEvents(
  db: Db,
  selection: EventSelection,
  limit: number,
): Promise<{ events: LedgerEvent[]; total: number }> {
  const { total } = await choose(db, selection)
    .select((eb) => eb.fn.countAll<number>().as("total"))
    .executeTakeFirstOrThrow();
  const newestFirst = choose(db, selection).select(COLUMNS).orderBy("receivedAt", "desc").orderBy("id");
  return { events: await newestFirst.limit(limit).execute(), total };
}

/** @throws NotFoundError. */
export async function getEvent(db: Db, id: string): Promise<LedgerEvent> {
  const event = await choose(db, { ids: [id] })
    .select(COLUMNS)
    .executeTakeFirst();
  return event ?? notFound(id);
}

/** The event as it was received, about somebody: reading it leaves a line in the audit log. @throws NotFoundError. */
export async function readEventPayload(ctx: { db: Db; clock: Clock; actor: Actor }, id: string): Promise<string> {
  return ctx.db.transaction().execute(async (tx) => {
    const event = await choose(tx, { ids: [id] })
      .select(["payload", "tenantId"])
      .executeTakeFirst();
    const { payload, tenantId } = event ?? notFound(id);
    const about = tenantId === null ? {} : { tenantId };
    await writeAudit(tx, {
      at: ctx.clock.now(),
      actor: ctx.actor,
      action: "stripe-event.read",
      ...about,
      detail: { id },
    });
    return payload;
  });
}

function notFound(id: string): never {
  throw new NotFoundError("event_not_found", `No Stripe event "${id}". See: openclaw billing events list`);
}

/** The ids of what `replayEvents` would take. */
export async function selectReplayable(db: Db, selection: EventSelection): Promise<string[]> {
  const rows = await choose(db, selection).select("id").where("status", "!=", "pending").orderBy("id").execute();
  return rows.map(({ id }) => id);
}

/**
 * Has events applied anew, whatever became of them before, with one line in the audit log. Applying what is known
 * already changes nothing. Those still pending are left as they are.
 * @returns the ids of those that will be.
 */
export async function replayEvents(
  ctx: { db: Db; clock: Clock; actor: Actor },
  selection: EventSelection,
  reason: string | undefined,
): Promise<string[]> {
  const now = ctx.clock.now();
  return ctx.db.transaction().execute(async (tx) => {
    const chosen = choose(tx, selection).select("id").where("status", "!=", "pending").orderBy("id").forUpdate();
    const rows = await tx
      .updateTable("stripeEvents")
      .set({ status: "pending", attempts: 0, nextAttemptAt: now, lastError: null, finishedAt: null })
      .where("id", "in", chosen)
      .returning("id")
      .execute();
    if (rows.length === 0) return [];
    const entry = { at: now, actor: ctx.actor, action: "stripe-events.replayed", reason };
    await writeAudit(tx, { ...entry, detail: { count: rows.length } });
    await enqueueJob(tx, "stripe.project", {}, { key: "stripe.project" });
    return rows.map(({ id }) => id).sort();
  });
}

/** Forgets every event about a tenant that is purged. */
export async function forgetEventsOf(db: Db, tenantId: TenantId): Promise<void> {
  await db.deleteFrom("stripeEvents").where("tenantId", "=", tenantId).execute();
}

/** Forgets what was applied or ignored 90 days after it came; never what found no tenant or failed. */
export async function pruneEvents(ctx: { db: Db; clock: Clock }, signal: AbortSignal): Promise<void> {
  const before = addMs(ctx.clock.now(), -KEEP_MS);
  const isDone = sql<boolean>`received_at < ${before} AND status IN ('projected', 'ignored')`;
  await pruneRows(ctx.db, "stripeEvents", isDone, signal);
}
