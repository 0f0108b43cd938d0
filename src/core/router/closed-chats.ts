import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { shardOf } from "./update.ts";

/**
 * Takes note that Telegram refuses to deliver to a chat; since when is kept from the first refusal. Finishing an update of
 * the chat that came later opens it again. `heardAt` is when the chat was last heard from, as far as the caller knows: what
 * was noted before that no longer holds.
 */
export async function closeChat(ctx: { db: Db; clock: Clock }, chatId: number, heardAt?: Date): Promise<void> {
  const closedAt = ctx.clock.now();
  await ctx.db
    .insertInto("telegramClosedChats")
    .values({ chatId, closedAt })
    .onConflict((conflict) => {
      const known = conflict.column("chatId");
      return heardAt === undefined
        ? known.doNothing()
        : known.doUpdateSet({ closedAt }).where("telegramClosedChats.closedAt", "<", heardAt);
    })
    .execute();
}

/** Since when nothing arrives in a chat; undefined when it does, as far as is known. */
export async function findChatClosedAt(db: Db, chatId: number): Promise<Date | undefined> {
  const row = await db
    .selectFrom("telegramClosedChats")
    .select("closedAt")
    .where("chatId", "=", chatId)
    .executeTakeFirst();
  return row?.closedAt;
}

/** Whether there is no use in writing to a chat: it is closed, and nothing from its person that came later waits to be worked on. */
export async function isChatClosedNow(db: Db, chatId: number): Promise<boolean> {
  const row = await db
    .selectFrom("telegramClosedChats as closed")
    .select("chatId")
    .where("chatId", "=", chatId)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom("telegramUpdates")
            .select("seq")
            .where("shard", "=", shardOf(chatId))
            .where("lane", "=", chatId)
            .where("finishedAt", "is", null)
            .whereRef("acceptedAt", ">=", "closed.closedAt"),
        ),
      ),
    )
    .executeTakeFirst();
  return row !== undefined;
}
