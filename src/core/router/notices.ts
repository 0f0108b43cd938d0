import type { Clock } from "../platform/clock.ts";
import { addMs } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";

/** Claims the right to say something about `topic` in a chat; false when that was said within the last `periodMs`. */
export async function claimNotice(
  ctx: { db: Db; clock: Clock },
  chatId: number,
  topic: string,
  periodMs: number,
): Promise<boolean> {
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
