import { Command } from "commander";
import { getTenant, listTenantEvents } from "../../core/tenants/tenants.ts";
import { printJson, printTable } from "../output.ts";
import { withStore } from "../session.ts";
import { count } from "./options.ts";
import { formatTime } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--limit <count>", "the newest so many", count, 50)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant events alice --limit 10")
    .action(async (reference: string, { limit, json }) =>
      withStore(async ({ db }) => {
        const tenant = await getTenant(db, reference);
        const events = await listTenantEvents(db, tenant.id, limit);
        if (json) return printJson({ tenant: tenant.slug, events });
        printTable(
          ["AT", "WHO", "WHAT", "DETAIL", "WHY"],
          events.map((event) => [
            formatTime(event.at),
            event.actor,
            event.action,
            describe(event.detail),
            event.reason ?? "",
          ]),
        );
      }),
    );
}

function describe(detail: unknown): string {
  return Object.entries(detail as Record<string, unknown>)
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}
