import { Command } from "commander";
import { deprovisionTenant } from "../../core/orchestrator/orchestrator.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { confirm } from "../confirm.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { patience, plainText } from "./options.ts";
import { tenantDocument } from "./view.ts";
import { waitWhile } from "./wait.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--confirm <slug>", "the tenant's slug again, for scripts")
    .option("--dry-run", "say what would happen and change nothing")
    .option("--no-input", "never ask")
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--wait", "until it is deleted")
    .option("--timeout <seconds>", "how long to wait", patience, 300)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant deprovision alice --confirm alice --wait")
    .action(async (reference: string, { confirm: given, dryRun, input, reason, wait, timeout, json }) =>
      withStore(async (store) => {
        const tenant = await getTenant(store.db, reference);
        if (dryRun) {
          say(
            `Would remove the runtime and keys of ${tenant.slug} (${tenant.status}); its data is kept ${store.config.tenancy.retentionDays} days.`,
          );
          return json ? printJson(tenantDocument(tenant)) : undefined;
        }
        const warning = `This removes the runtime and keys of ${tenant.slug}.`;
        await confirm({ warning, word: tenant.slug, given, input });
        const begun = await deprovisionTenant(store, tenant.id, reason);
        const after = wait ? await waitWhile(store, tenant.id, "deprovisioning", timeout * 1_000) : begun;
        if (json) return printJson(tenantDocument(after));
        say(`${after.slug} is ${after.status}.`);
      }),
    );
}
