import { sql } from "kysely";
import type { Clock } from "../platform/clock.ts";
import { addMs } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { pruneRows } from "../platform/prune.ts";
import { isChatClosedNow } from "./closed-chats.ts";

/** Longer than any period but that of what is said once. */
const KEEP_MS = 24 * 60 * 60_000;
const SAID_ONCE = "privateOnly";

/**
 * Claims the right to say something about `topic` in a chat; false when that was said within the last `periodMs`, or when
 * nothing arrives there.
 */
export async function claimNotice(
  ctx: { db: Db; clock: Clock },
  chatId: number,
  topic: string,
  periodMs: number,
): Promise<boolean> {
  if (await isChatClosedNow(ctx.db, chatId)) return false;
  const now = ctx.clock.now();
  const row = await ctx.db
    .insertInto("telegramNotices")
    .values({ chatId, topic, sentAt: now })
    .onConflict((conflict) =>
      conflict
        .columns(["chatId", "topic"])
        .doUpdateSet({ sentAt: now })
        .where("telegramNotices.sentAt", "<=", addMs(now, -periodMs)),
    )
    .returning("chatId")
    .executeTakeFirst();
  return row !== undefined;
}

/** Gives the right back when saying it failed. */
export async function releaseNotice(db: Db, chatId: number, topic: string): Promise<void> {
  await db.deleteFrom("telegramNotices").where("chatId", "=", chatId).where("topic", "=", topic).execute();
}

/** Forgets what was said more than a day ago, but for what must not be said again. */
export async function pruneNotices(ctx: { db: Db; clock: Clock }, signal: AbortSignal): Promise<void> {
  const before = addMs(ctx.clock.now(), -KEEP_MS);
  const isOld = sql<boolean>`sent_at < ${before} AND topic <> ${SAID_ONCE}`;
  await pruneRows(ctx.db, "telegramNotices", isOld, signal);
}
