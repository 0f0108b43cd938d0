import { Command } from "commander";
import { resumeTenant } from "../../core/orchestrator/orchestrator.ts";
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
    .addHelpText("after", "\nExample:\n  openclaw tenant resume alice")
    .action(async (reference: string, { reason, json }) =>
      withStore(async (store) => {
        const { id } = await getTenant(store.db, reference);
        const tenant = await resumeTenant(store, id, reason);
        if (json) return printJson(tenantDocument(tenant));
        say(`${tenant.slug} is ${tenant.status}.`);
      }),
    );
}
