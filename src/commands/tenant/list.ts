import { Command, Option } from "commander";
import { listTenants, TENANT_STATUSES } from "../../core/tenants/tenants.ts";
import { printJson, printTable, say } from "../output.ts";
import { withStore } from "../session.ts";
import { tenantDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .addOption(new Option("--status <status...>", "only these").choices(TENANT_STATUSES))
    .addOption(new Option("--tier <tier>", "only this tier").choices(["basic", "plus"]))
    .option("--tag <tag>", "only with this tag")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant list --status active suspended")
    .action(async ({ json, ...filter }) =>
      withStore(async ({ db }) => {
        const tenants = await listTenants(db, filter);
        if (json) return printJson({ tenants: tenants.map(tenantDocument) });
        if (tenants.length === 0)
          return say("No tenants. Create one with: openclaw tenant create <slug> --email <address>");
        printTable(
          ["SLUG", "STATUS", "TIER", "CHAT", "E-MAIL", "SINCE"],
          tenants.map((tenant) => [
            tenant.slug,
            tenant.status === "suspended" ? `suspended (${tenant.suspendedBy})` : tenant.status,
            tenant.tier,
            String(tenant.telegramChatId ?? "–"),
            tenant.email,
            tenant.statusChangedAt.toISOString().slice(0, 16).replace("T", " "),
          ]),
        );
      }),
    );
}
