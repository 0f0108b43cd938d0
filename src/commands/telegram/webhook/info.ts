import { Command } from "commander";
import { fetchBot } from "../../../core/adapters/telegram/bot.ts";
import { fetchWebhookInfo } from "../../../core/adapters/telegram/webhook.ts";
import { printJson } from "../../output.ts";
import { loadSettings } from "../../session.ts";
import { withBotApi } from "../bot.ts";
import { configuredUrl } from "./address.ts";
import { printWebhook, webhookDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw telegram webhook info")
    .action(async ({ json }) => {
      const settings = await loadSettings();
      await withBotApi(settings, async (api) => {
        const { username } = await fetchBot(api);
        const document = webhookDocument(username, await fetchWebhookInfo(api), configuredUrl(settings.config));
        return json ? printJson(document) : printWebhook(document);
      });
    });
}
