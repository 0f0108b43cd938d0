import { Command } from "commander";
import { createLink, getTenant, linkChat } from "../../core/tenants/tenants.ts";
import { ConfigError, UsageError } from "../../core/platform/errors.ts";
import { printJson, printLine, say } from "../output.ts";
import { withStore } from "../session.ts";
import { wholeNumber } from "./options.ts";
import { tenantDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--chat <id>", "bind this private chat now, without a link", wholeNumber)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant link alice")
    .action(async (reference: string, { chat, json }) =>
      withStore(async (store) => {
        const { id, slug } = await getTenant(store.db, reference);
        if (chat !== undefined) {
          if (chat <= 0) throw new UsageError("chat_not_private", "--chat must be a private chat: a positive number.");
          const tenant = await linkChat(store, id, { chatId: chat, userId: chat, username: undefined });
          return json ? printJson(tenantDocument(tenant)) : say(`${slug} is linked to chat ${chat}.`);
        }
        const bot = await botUsername(store);
        const { token, expiresAt } = await createLink(store, id);
        const url = `https://t.me/${bot}?start=${token}`;
        if (json) return printJson({ tenant: slug, url, expiresAt });
        printLine(url);
        if (process.stderr.isTTY) say(await terminalQrCode(url));
        say(`Valid once, until ${expiresAt.toISOString()}.`);
      }),
    );
}

async function botUsername(store: Parameters<Parameters<typeof withStore>[0]>[0]): Promise<string> {
  const token = store.secrets.telegramBotToken;
  if (token === undefined) {
    throw new ConfigError("telegram_unconfigured", [
      "TELEGRAM_BOT_TOKEN is not set; a link needs the bot's name. Expected 123456789:AAE…",
    ]);
  }
  const { createBotApi } = await import("../../core/adapters/telegram/bot-api.ts");
  const { fetchBot } = await import("../../core/adapters/telegram/bot.ts");
  const api = createBotApi({ apiRoot: store.config.telegram.apiRoot, token });
  try {
    return (await fetchBot(api)).username;
  } finally {
    await api.close();
  }
}

async function terminalQrCode(url: string): Promise<string> {
  const { default: qrcode } = await import("qrcode");
  return qrcode.toString(url, { type: "terminal", small: true });
}
