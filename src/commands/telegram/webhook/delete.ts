import { Command } from "commander";
import { fetchBot } from "../../../core/adapters/telegram/bot.ts";
import { deleteWebhook, fetchWebhookInfo } from "../../../core/adapters/telegram/webhook.ts";
import { UpstreamError } from "../../../core/platform/errors.ts";
import { confirm } from "../../confirm.ts";
import { printJson, say } from "../../output.ts";
import { loadSettings } from "../../session.ts";
import { withBotApi } from "../bot.ts";
import { configuredUrl } from "./address.ts";
import { webhookDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .option("--drop-pending", "forget what Telegram has not delivered yet, too")
    .option("--confirm <bot>", "the bot's user name, for scripts")
    .option("--dry-run", "say what would happen and change nothing")
    .option("--no-input", "never ask")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw telegram webhook delete --confirm my_bot")
    .action(async ({ dropPending = false, confirm: given, dryRun, input, json }) => {
      const settings = await loadSettings();
      await withBotApi(settings, async (api) => {
        const { username } = await fetchBot(api);
        const before = await fetchWebhookInfo(api);
        const document = (info: typeof before) => webhookDocument(username, info, configuredUrl(settings.config));
        const kept = dropPending
          ? `forgets ${before.pendingUpdates} that nobody has received`
          : "keeps undelivered ones 24 hours";
        const warning = `Telegram then sends @${username}'s updates nowhere (now: ${before.url || "nowhere"}) and ${kept}.`;
        if (dryRun) {
          say(`Would delete the webhook. ${warning}`);
          return json ? printJson(document(before)) : undefined;
        }
        await confirm({ warning, word: username, given, input });
        await deleteWebhook(api, dropPending);
        const after = await fetchWebhookInfo(api);
        if (after.url !== "") throw stillThere(after.url);
        return json ? printJson(document(after)) : say(`@${username} has no webhook any more.`);
      });
    });
}

function stillThere(url: string): UpstreamError {
  return new UpstreamError(
    "webhook_not_in_force",
    `Telegram took the deletion, and then said that the webhook is ${url}. Does somebody else set it?`,
    { service: "telegram", retryable: true },
  );
}
