import { Command } from "commander";
import { fetchBot } from "../../../core/adapters/telegram/bot.ts";
import { fetchWebhookInfo, setWebhook } from "../../../core/adapters/telegram/webhook.ts";
import { UpstreamError } from "../../../core/platform/errors.ts";
import { confirm } from "../../confirm.ts";
import { printJson, say } from "../../output.ts";
import { loadSettings } from "../../session.ts";
import { numberFrom } from "../../tenant/options.ts";
import { withBotApi } from "../bot.ts";
import { configuredUrl, webhookTarget } from "./address.ts";
import { printWebhook, webhookDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .option("--url <url>", "another address than OPENCLAW_PUBLIC_URL + /webhooks/telegram")
    .option("--max-connections <count>", "calls that Telegram makes at once, 1 to 100", numberFrom(1, 100), 100)
    .option("--drop-pending", "forget what Telegram has not delivered yet")
    .option("--confirm <bot>", "the bot's user name, for --drop-pending in scripts")
    .option("--dry-run", "say what would be set and change nothing")
    .option("--no-input", "never ask")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw telegram webhook set")
    .action(async ({ url: given, maxConnections, dropPending = false, confirm: word, dryRun, input, json }) => {
      const settings = await loadSettings();
      const { url, secret } = webhookTarget(settings, given);
      await withBotApi(settings, async (api) => {
        const { username } = await fetchBot(api);
        const before = await fetchWebhookInfo(api);
        if (dryRun) {
          const dropped = dropPending ? ` and forget ${before.pendingUpdates} updates` : "";
          say(`Would have @${username} send updates to ${url}, by ${maxConnections} connections at most${dropped}.`);
          return json ? printJson(webhookDocument(username, before, configuredUrl(settings.config))) : undefined;
        }
        if (dropPending) {
          const warning = `This forgets ${before.pendingUpdates} updates that nobody has received.`;
          await confirm({ warning, word: username, given: word, input });
        }
        await setWebhook(api, { url, secret, maxConnections, dropPending });
        // What Telegram says is in force, not what was asked for (F48).
        const after = await fetchWebhookInfo(api);
        if (after.url !== url) throw notInForce(after.url);
        const document = webhookDocument(username, after, configuredUrl(settings.config));
        if (json) return printJson(document);
        printWebhook(document);
        if (before.url !== "" && before.url !== url) say(`Before, it was ${before.url}.`);
      });
    });
}

function notInForce(url: string): UpstreamError {
  return new UpstreamError(
    "webhook_not_in_force",
    `Telegram took the webhook, and then said that it is ${url === "" ? "none" : url}. Does somebody else set it?`,
    { service: "telegram", retryable: true },
  );
}
