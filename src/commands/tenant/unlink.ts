import { Command } from "commander";
import { getTenant, unlinkChat } from "../../core/tenants/tenants.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { tenantDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant unlink alice")
    .action(async (reference: string, { json }) =>
      withStore(async (store) => {
        const before = await getTenant(store.db, reference);
        const tenant = await unlinkChat(store, before.id);
        if (json) return printJson(tenantDocument(tenant));
        say(
          before.telegramChatId === null
            ? `${tenant.slug} was not linked.`
            : `${tenant.slug} is no longer linked to ${before.telegramChatId}.`,
        );
      }),
    );
}
