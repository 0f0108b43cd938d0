import { Command } from "commander";
import { applyEntitlement } from "../../core/billing/billing.ts";
import { getTenant, updateTenant } from "../../core/tenants/tenants.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { fieldsOf, namingOptions, withFieldOptions } from "./fields.ts";
import { wholeNumber } from "./options.ts";
import { tenantDocument } from "./view.ts";

export function command(): Command {
  return withFieldOptions(new Command().argument("<tenant>", "slug or id"))
    .option("--email <address>", "the subscriber's e-mail")
    .option("--trial-days <days>", "a local trial from now; 0 ends it", wholeNumber)
    .option("--no-billing-exempt", "has to pay again")
    .option("--no-budget-exempt", "budgets apply again")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant update alice --tier plus --time-zone Europe/Berlin")
    .action(async (reference: string, options) =>
      withStore(async (store) => {
        const { json, ...rest } = options;
        const { id } = await getTenant(store.db, reference);
        await namingOptions(() => updateTenant(store, id, fieldsOf(rest)));
        // A trial given now begins now; anything else only has its consequences reviewed.
        await applyEntitlement(store, id, rest.trialDays > 0 ? "began" : "review");
        const tenant = await getTenant(store.db, id);
        if (json) return printJson(tenantDocument(tenant));
        say(`Updated ${tenant.slug} (${tenant.status}).`);
      }),
    );
}
