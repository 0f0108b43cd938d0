import { z } from "zod";
import type { BotApi } from "./bot-api.ts";

const bot = z.object({ id: z.int(), username: z.string() });

/** Who the bot is. @throws BotApiError when Telegram refuses the token or can't be reached. */
export async function fetchBot(api: BotApi): Promise<z.output<typeof bot>> {
  return bot.parse(await api.call("getMe"));
}
