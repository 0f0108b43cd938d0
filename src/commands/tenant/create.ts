import { Command } from "commander";
import { createTenant } from "../../core/tenants/tenants.ts";
import { printJson, printLine, say } from "../output.ts";
import { withStore } from "../session.ts";
import { fieldsOf, namingOptions, withFieldOptions } from "./fields.ts";
import { privateChat, wholeNumber } from "./options.ts";
import { tenantDocument } from "./view.ts";

export function command(): Command {
  return withFieldOptions(
    new Command()
      .argument("<slug>", "the name used wherever people type a tenant: a-z 0-9 -")
      .requiredOption("--email <address>", "the subscriber's e-mail"),
  )
    .option("--chat <id>", "private Telegram chat", privateChat)
    .option("--user <id>", "Telegram user (default: the chat's)", privateChat)
    .option("--username <name>", "Telegram username")
    .option("--trial-days <days>", "begin a trial at once (default: OPENCLAW_TRIAL_DAYS)", wholeNumber)
    .option("--stamp <id>", "where on Azure it runs (default: the first stamp with room)")
    .option("--idempotency-key <key>", "a repeated call with this key, within 30 days, creates nothing new")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant create alice --email alice@example.com --chat 111222333")
    .action(async (slug: string, options) =>
      withStore(async (store) => {
        const { json, idempotencyKey, email, ...rest } = options;
        const tier: "basic" | "plus" = rest.tier ?? "basic";
        const input = { slug, email, trialDays: store.config.tenancy.trialDays[tier], ...fieldsOf(rest) };
        const { tenant, created } = await namingOptions(() => createTenant(store, input, { idempotencyKey }));
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
