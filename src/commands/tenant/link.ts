import { Command } from "commander";
import { createLink, getTenant, linkChat } from "../../core/tenants/tenants.ts";
import type { Store } from "../../core/context.ts";
import { printJson, printLine, say } from "../output.ts";
import { drawQrCode } from "../qr-code.ts";
import { withStore } from "../session.ts";
import { privateChat } from "./options.ts";
import { formatTime, tenantDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--chat <id>", "bind this private chat now, without a link", privateChat)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant link alice")
    .action(async (reference: string, { chat, json }) =>
      withStore(async (store) => {
        const { id, slug, telegramChatId } = await getTenant(store.db, reference);
        if (chat !== undefined) {
          const tenant = await linkChat(store, id, { chatId: chat, userId: chat, username: undefined });
          return json ? printJson(tenantDocument(tenant)) : say(`${slug} is linked to chat ${chat}.`);
        }
        // The bot's name first: a link that can't be shown would have revoked the one before for nothing.
        const bot = await botUsername(store);
        const { token, expiresAt } = await createLink(store, id);
        const url = `https://t.me/${bot}?start=${token}`;
        if (json) return printJson({ tenant: slug, url, expiresAt });
        printLine(url);
        await drawQrCode(url);
        if (telegramChatId !== null) say(`${slug} is linked to chat ${telegramChatId}; the link moves it to another.`);
        say(`Valid once, until ${formatTime(expiresAt)}.`);
      }),
    );
}

async function botUsername(store: Store): Promise<string> {
  const { withBotApi } = await import("../telegram/bot.ts");
  const { fetchBot } = await import("../../core/adapters/telegram/bot.ts");
  return withBotApi(store, async (api) => (await fetchBot(api)).username);
}
