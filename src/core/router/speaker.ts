import { BotApiError, type BotApi } from "../adapters/telegram/bot-api.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { Log } from "../platform/log.ts";
import { closeChat } from "./closed-chats.ts";
import { claimNotice, releaseNotice } from "./notices.ts";

/** What the service says itself: how much at once, and how long each may take, its turn at the pacer included. */
const MAX_SPEAKING = 128;
const SPEAK_MS = 15_000;

/** "silent": said lately, or the person can't be reached for good. "later": Telegram can't be reached now. */
export type Said = "said" | "silent" | "later";

/** Says what the service itself has to say, to people whose updates reach no runtime. */
export function createSpeaker(ctx: { db: Db; clock: Clock; log: Log; botApi: BotApi | undefined }) {
  let speaking = 0;

  /** Says `text`, made only when it is wanted, unless something on `topic` was said in the chat within `periodMs`. */
  async function say(
    chatId: number,
    topic: string,
    periodMs: number,
    text: string | (() => Promise<string>),
  ): Promise<Said> {
    if (ctx.botApi === undefined) return "silent";
    // While Telegram hangs, what the service has to say must not keep the runtimes' updates from their slots.
    if (speaking >= MAX_SPEAKING) return "later";
    speaking += 1;
    const signal = AbortSignal.timeout(SPEAK_MS);
    try {
      if (!(await claimNotice(ctx, chatId, topic, periodMs))) return "silent";
      await ctx.botApi.sendMessage(chatId, typeof text === "string" ? text : await text(), { signal });
      return "said";
    } catch (error) {
      if (signal.aborted) {
        await releaseNotice(ctx.db, chatId, topic);
        return "later";
      }
      if (!(error instanceof BotApiError)) {
        // The words could not be made: whoever tries again is to find them unsaid.
        await releaseNotice(ctx.db, chatId, topic);
        throw error;
      }
      ctx.log.warn({ chatId, topic, error }, "could not write to a chat");
      if (error.isChatClosed) await closeChat(ctx, chatId);
      if (!error.retryable) return "silent";
      await releaseNotice(ctx.db, chatId, topic);
      return "later";
    } finally {
      speaking -= 1;
    }
  }

  /** Ends the waiting sign on a tapped button. Nobody waits for it, and nothing hangs on it. */
  function endTap(callbackQueryId: string): void {
    ctx.botApi
      ?.call("answerCallbackQuery", { callback_query_id: callbackQueryId }, { signal: AbortSignal.timeout(SPEAK_MS) })
      .catch((error: unknown) => ctx.log.debug({ error }, "a tap could not be answered"));
  }

  return { say, endTap };
}
