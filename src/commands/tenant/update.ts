import { Command, Option } from "commander";
import { applyEntitlement } from "../../core/billing/billing.ts";
import { getTenant, updateTenant } from "../../core/tenants/tenants.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { collect, jsonObject, wholeNumber } from "./options.ts";
import { tenantDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--name <text>", "display name")
    .option("--email <address>", "the subscriber's e-mail")
    .addOption(new Option("--tier <tier>", "what the tenant pays for").choices(["basic", "plus"]))
    .option("--language <tag>", "such as en or pt-BR")
    .option("--time-zone <zone>", "such as Europe/Berlin")
    .option("--preferences <json>", "a JSON object, replacing the present one", jsonObject)
    .option("--tag <tag>", "may be repeated; replaces all tags", collect)
    .option("--trial-days <days>", "a local trial from now; 0 ends it", wholeNumber)
    .option("--billing-exempt", "runs without paying")
    .option("--no-billing-exempt", "has to pay again")
    .option("--budget-exempt", "no model budget applies")
    .option("--no-budget-exempt", "budgets apply again")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant update alice --tier plus --time-zone Europe/Berlin")
    .action(async (reference: string, options) =>
      withStore(async (store) => {
        const { json, name, tag, ...rest } = options;
        const input = {
          ...rest,
          ...(name === undefined ? {} : { displayName: name }),
          ...(tag === undefined ? {} : { tags: tag }),
        };
        const { id } = await getTenant(store.db, reference);
        await updateTenant(store, id, input);
        // A trial given now begins now; anything else only has its consequences reviewed.
        await applyEntitlement(store, id, input.trialDays > 0 ? "began" : "review");
        const tenant = await getTenant(store.db, id);
        if (json) return printJson(tenantDocument(tenant));
        say(`Updated ${tenant.slug} (${tenant.status}).`);
      }),
    );
}
