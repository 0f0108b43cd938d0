import { Command } from "commander";
import { requestPurge } from "../../core/orchestrator/orchestrator.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { confirm } from "../confirm.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { plainText } from "./options.ts";
import { tenantDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--confirm <slug>", "the tenant's slug again, for scripts")
    .option("--dry-run", "say what would happen and change nothing")
    .option("--no-input", "never ask")
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant purge alice --confirm alice")
    .action(async (reference: string, { confirm: given, dryRun, input, reason, json }) =>
      withStore(async (store) => {
        const tenant = await getTenant(store.db, reference);
        const warning = `This removes everything that is left of ${tenant.slug} (${tenant.status}), for good.`;
        if (dryRun) {
          say(`Would do: ${warning}`);
          return json ? printJson(tenantDocument(tenant)) : undefined;
        }
        await confirm({ warning, word: tenant.slug, given, input });
        await requestPurge(store, tenant.id, reason);
        if (json) return printJson(tenantDocument(await getTenant(store.db, tenant.id)));
        say(`${tenant.slug} is being purged; a daemon does it.`);
      }),
    );
}
