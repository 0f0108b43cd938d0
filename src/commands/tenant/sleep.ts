import { Command } from "commander";
import { sleepTenant } from "../../core/orchestrator/orchestrator.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { plainText } from "./options.ts";
import { tenantDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant sleep alice")
    .action(async (reference: string, { reason, json }) =>
      withStore(async (store) => {
        const { id } = await getTenant(store.db, reference);
        const tenant = await sleepTenant(store, id, reason);
        if (json) return printJson(tenantDocument(tenant));
        say(`${tenant.slug} goes to sleep once it is quiet; the next message wakes it.`);
      }),
    );
}
