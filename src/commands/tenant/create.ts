import { Command, Option } from "commander";
import { createTenant } from "../../core/tenants/tenants.ts";
import { printJson, printLine, say } from "../output.ts";
import { withStore } from "../session.ts";
import { collect, jsonObject, wholeNumber } from "./options.ts";
import { tenantDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<slug>", "the name used wherever people type a tenant: a-z 0-9 -")
    .requiredOption("--email <address>", "the subscriber's e-mail")
    .option("--name <text>", "display name (default: the slug)")
    .option("--chat <id>", "private Telegram chat", wholeNumber)
    .option("--user <id>", "Telegram user (default: the chat's)", wholeNumber)
    .option("--username <name>", "Telegram username")
    .addOption(new Option("--tier <tier>", "what the tenant pays for").choices(["basic", "plus"]))
    .option("--language <tag>", "such as en or pt-BR")
    .option("--time-zone <zone>", "such as Europe/Berlin")
    .option("--preferences <json>", "a JSON object", jsonObject)
    .option("--tag <tag>", "may be repeated", collect)
    .option("--trial-days <days>", "begin a trial at once (default: OPENCLAW_TRIAL_DAYS)", wholeNumber)
    .option("--billing-exempt", "runs without paying")
    .option("--budget-exempt", "no model budget applies")
    .option("--idempotency-key <key>", "a repeated call with this key creates nothing new")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant create alice --email alice@example.com --chat 111222333")
    .action(async (slug: string, options) =>
      withStore(async (store) => {
        const { name, chat, user, username, tag, json, idempotencyKey, ...rest } = options;
        const input = {
          slug,
          trialDays: store.config.tenancy.trialDays,
          ...rest,
          ...(name === undefined ? {} : { displayName: name }),
          ...(chat === undefined ? {} : { telegramChatId: chat }),
          ...(user === undefined ? {} : { telegramUserId: user }),
          ...(username === undefined ? {} : { telegramUsername: username }),
          ...(tag === undefined ? {} : { tags: tag }),
        };
        const { tenant, created } = await createTenant(store, input, { idempotencyKey });
        if (json) return printJson(tenantDocument(tenant));
        printLine(tenant.id);
        say(
          created
            ? `Created ${tenant.slug} (${tenant.status}).`
            : `${tenant.slug} was created by an earlier call with this key.`,
        );
      }),
    );
}
