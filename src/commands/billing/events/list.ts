import { Command } from "commander";
import { listEvents } from "../../../core/billing/billing.ts";
import { printJson, printTable, say } from "../../output.ts";
import { withStore } from "../../session.ts";
import { count } from "../../tenant/options.ts";
import { slugsOf } from "../../tenant/slugs.ts";
import { formatTime } from "../../tenant/view.ts";
import { eventsOf, withSelectors } from "./selection.ts";

export function command(): Command {
  return withSelectors(new Command())
    .option("--limit <count>", "the newest so many", count, 50)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw billing events list --status unmatched --since 2d")
    .action(async ({ limit, json, ...selectors }) =>
      withStore(async (store) => {
        const { events, total } = await listEvents(store.db, await eventsOf(store, selectors), limit);
        const slugs = await slugsOf(store.db, events);
        const rows = events.map((event) => ({ ...event, tenant: slugs.get(event.tenantId) ?? null }));
        if (json) return printJson({ events: rows, total });
        if (total === 0) return say("No Stripe events match.");
        printTable(
          ["RECEIVED", "ID", "TYPE", "STATUS", "TENANT", "TROUBLE"],
          rows.map((row) => [
            formatTime(row.receivedAt),
            row.id,
            row.type,
            row.status,
            row.tenant ?? "–",
            row.lastError ?? "",
          ]),
        );
        if (total > rows.length) say(`The newest ${rows.length} of ${total}; see more with --limit.`);
      }),
    );
}
