import { Command } from "commander";
import { provisionTenant } from "../../core/orchestrator/orchestrator.ts";
import { ConflictError } from "../../core/platform/errors.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { patience, plainText } from "./options.ts";
import { tenantDocument } from "./view.ts";
import { waitWhile } from "./wait.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--wait", "until it is active")
    .option("--timeout <seconds>", "how long to wait", patience, 300)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant provision alice --wait")
    .action(async (reference: string, { reason, wait, timeout, json }) =>
      withStore(async (store) => {
        const { id, slug } = await getTenant(store.db, reference);
        const begun = await provisionTenant(store, id, reason);
        const tenant = wait ? await waitWhile(store, id, "provisioning", timeout * 1_000) : begun;
        if (wait && tenant.status !== "active") {
          throw new ConflictError(
            "provisioning_failed",
            `${slug} is ${tenant.status}: ${tenant.statusReason ?? "no reason recorded"}`,
          );
        }
        if (json) return printJson(tenantDocument(tenant));
        say(`${slug} is ${tenant.status}.`);
      }),
    );
}
