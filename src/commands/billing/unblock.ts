import { Command } from "commander";
import { unblockTenant } from "../../core/billing/billing.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { plainText } from "../tenant/options.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw billing unblock alice --reason 'paid by bank transfer'")
    .action(async (reference: string, { reason, json }) =>
      withStore(async (store) => {
        const { id, slug } = await getTenant(store.db, reference);
        const charges = await unblockTenant(store, id, reason);
        const { status } = await getTenant(store.db, id);
        if (json) return printJson({ tenant: slug, status, charges });
        say(
          charges.length === 0
            ? `Nothing blocks ${slug}.`
            : `${charges.join(", ")} no longer block ${slug} (${status}).`,
        );
      }),
    );
}
