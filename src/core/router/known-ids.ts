import { createBatcher } from "../platform/batcher.ts";
import { addMs, type Clock } from "../platform/clock.ts";
import { sql } from "kysely";
import type { Db } from "../platform/db.ts";
import { pruneRows } from "../platform/prune.ts";
import type { TenantId } from "../platform/ids.ts";
import type { TelegramIdKind } from "./bot-api-ownership.ts";

/** A statement takes 65,535 parameters. */
const BATCH_CALLS = 10;
const MAX_IDS_OF_CALL = 1_000;
const KEEP_MS = 30 * 24 * 3_600_000;

export type KnownId = { kind: TelegramIdKind; id: string };

type Seen = { tenantId: TenantId; ids: readonly KnownId[] };

/** Remembers that a tenant has seen these ids; seeing one again keeps it longer. */
export async function rememberIds(
  ctx: { db: Db; clock: Clock },
  tenantId: TenantId,
  ids: readonly KnownId[],
): Promise<void> {
  await rememberAll(ctx, [{ tenantId, ids }]);
}

/** Remembers ids as they come; those of calls that arrive together share a statement. */
export function createIdMemory(ctx: { db: Db; clock: Clock }) {
  const batcher = createBatcher<Seen, void>({
    maxItems: BATCH_CALLS,
    async run(seen) {
      await rememberAll(ctx, seen);
      return seen.map(() => undefined);
    },
  });
  return (tenantId: TenantId, ids: readonly KnownId[]): Promise<void> => batcher.submit({ tenantId, ids });
}

async function rememberAll(ctx: { db: Db; clock: Clock }, seen: readonly Seen[]): Promise<void> {
  const rows = seen.flatMap(({ tenantId, ids }) =>
    ids
      .slice(0, MAX_IDS_OF_CALL)
      .filter(({ id }) => isStorable(id))
      .map((known) => ({ tenantId, ...known })),
  );
  // One statement can't touch a row twice, and two that touch the same rows must do so in the same order.
  const distinct = new Map(rows.map((row) => [`${row.tenantId} ${row.kind} ${row.id}`, row]));
  if (distinct.size === 0) return;
  const seenAt = ctx.clock.now();
  const values = [...distinct].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, row]) => ({ ...row, seenAt }));
  await ctx.db
    .insertInto("telegramKnownIds")
    .values(values)
    .onConflict((conflict) => conflict.columns(["tenantId", "kind", "id"]).doUpdateSet({ seenAt }))
    .execute();
}

export async function ownsId(db: Db, tenantId: TenantId, known: KnownId): Promise<boolean> {
  if (!isStorable(known.id)) return false;
  const row = await db
    .selectFrom("telegramKnownIds")
    .select("id")
    .where("tenantId", "=", tenantId)
    .where("kind", "=", known.kind)
    .where("id", "=", known.id)
    .executeTakeFirst();
  return row !== undefined;
}

/** Forgets ids not seen for 30 days. */
export async function pruneKnownIds(ctx: { db: Db; clock: Clock }, signal: AbortSignal): Promise<void> {
  await pruneRows(ctx.db, "telegramKnownIds", sql`seen_at < ${addMs(ctx.clock.now(), -KEEP_MS)}`, signal);
}

const KIND_BY_FIELD: Readonly<Record<string, TelegramIdKind>> = {
  file_id: "file",
  inline_message_id: "inline-message",
  business_connection_id: "business-connection",
};

/** Far deeper than Telegram nests, and far shallower than the stack. */
const MAX_DEPTH = 32;
const MAX_ID_LENGTH = 512;
const MAX_IDS = 200;

/** The ids that an update gives to whom it is delivered: what hangs on it, and what it asks an answer to. */
export function idsIn(fields: Record<string, unknown>): KnownId[] {
  const found: KnownId[] = [];
  collect(fields, 0, found);
  const query = (kind: TelegramIdKind, value: unknown) => {
    if (typeof value === "object" && value !== null && "id" in value && typeof value.id === "string")
      found.push({ kind, id: value.id });
  };
  query("callback-query", fields["callback_query"]);
  query("inline-query", fields["inline_query"]);
  query("business-connection", fields["business_connection"]);
  return found.filter(({ id }) => isStorable(id)).slice(0, MAX_IDS);
}

function collect(value: unknown, depth: number, found: KnownId[]): void {
  if (typeof value !== "object" || value === null || depth > MAX_DEPTH) return;
  for (const [key, inner] of Object.entries(value)) {
    const kind = KIND_BY_FIELD[key];
    if (kind !== undefined && typeof inner === "string") found.push({ kind, id: inner });
    else collect(inner, depth + 1, found);
  }
}

/** PostgreSQL takes no NUL in a text, and no id of Telegram's is longer. */
function isStorable(id: string): boolean {
  return id.length <= MAX_ID_LENGTH && !id.includes("\0") && id.isWellFormed();
}
