import { type Insertable, sql } from "kysely";
import { addMs, type Clock } from "../platform/clock.ts";
import { type Db, isForeignKeyViolation } from "../platform/db.ts";
import { pruneRows } from "../platform/prune.ts";
import type { ConnectionEvents } from "../platform/schema.ts";
import type { ConnectionKey } from "./store.ts";

const DAY_MS = 86_400_000;
const KEEP_SUCCESSES_MS = 2 * DAY_MS;
const KEEP_FAILURES_MS = 30 * DAY_MS;

/** `recovered`: what another had got and was cut off from promoting. `overtaken`: another had gone on meanwhile. */
const SUCCESSES = ["done", "recovered"] as const;
/** `dead`, `client` and `unavailable` as in `Refusal`. */
export type EventOutcome =
  | (typeof SUCCESSES)[number]
  | "overtaken"
  | "denied"
  | "dead"
  | "client"
  | "unavailable"
  | "failed";

export type ConnectionEvent = Omit<Insertable<ConnectionEvents>, "outcome"> & { outcome: EventOutcome };
export type AskedBy = ConnectionEvent["askedBy"];

/** Keeps what was done about a connection, and how it went. Nothing in it may be secret. */
export async function recordEvent(db: Db, event: ConnectionEvent): Promise<void> {
  await db.insertInto("connectionEvents").values(event).execute();
}

/** The same outside a transaction, for whoever can't tell whether the tenant is still there: of one that is gone nothing is kept. */
export async function recordEventOfAnybody(db: Db, event: ConnectionEvent): Promise<void> {
  try {
    await recordEvent(db, event);
  } catch (error) {
    // To translate.
    if (!isForeignKeyViolation(error)) throw error;
  }
}

/** The newest `limit`, oldest first. */
export async function listEvents(db: Db, { tenantId, provider }: ConnectionKey, limit: number) {
  const rows = await db
    .selectFrom("connectionEvents")
    .selectAll()
    .where("tenantId", "=", tenantId)
    .where("provider", "=", provider)
    .orderBy("id", "desc")
    .limit(limit)
    .execute();
  return rows.toReversed();
}

/** Forgets failures after 30 days, and successes after two. */
export async function pruneConnectionEvents(ctx: { db: Db; clock: Clock }, signal: AbortSignal): Promise<void> {
  const now = ctx.clock.now();
  const isOver = sql<boolean>`at < ${addMs(now, -KEEP_SUCCESSES_MS)}
    AND (outcome = ANY (${[...SUCCESSES]}::text[]) OR at < ${addMs(now, -KEEP_FAILURES_MS)})`;
  await pruneRows(ctx.db, "connectionEvents", isOver, signal);
}
