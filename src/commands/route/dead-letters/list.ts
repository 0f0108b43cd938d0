import { Command } from "commander";
import { listDeadLetters } from "../../../core/router/dead-letters.ts";
import { printJson, printTable, say } from "../../output.ts";
import { withStore } from "../../session.ts";
import { count } from "../../tenant/options.ts";
import { slugsOf } from "../../tenant/slugs.ts";
import { formatTime } from "../../tenant/view.ts";
import { filterOf, parseSince } from "./selection.ts";

export function command(): Command {
  return new Command()
    .option("--tenant <tenant>", "only this tenant's, by slug or id")
    .option("--since <when>", "given up since: 90m, 12h, 2d or a time", parseSince)
    .option("--limit <count>", "the newest so many", count, 50)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw route dead-letters list --tenant alice --since 2d")
    .action(async ({ limit, json, ...selectors }) =>
      withStore(async (store) => {
        const { letters, total } = await listDeadLetters(store.db, await filterOf(store, selectors), limit);
        const slugs = await slugsOf(store.db, letters);
        const rows = letters.map((letter) => ({ ...letter, tenant: slugs.get(letter.tenantId) ?? null }));
        if (json) return printJson({ deadLetters: rows, total });
        if (total === 0) return say("No dead letters.");
        printTable(
          ["ID", "GIVEN UP", "TENANT", "CHAT", "UPDATE", "KIND", "BYTES", "REASON"],
          rows.map((row) => [
            String(row.id),
            formatTime(row.diedAt),
            row.tenant ?? "–",
            String(row.lane),
            String(row.updateId),
            row.kind,
            String(row.sizeBytes),
            row.reason,
          ]),
        );
        if (total > rows.length) say(`The newest ${rows.length} of ${total}; see more with --limit.`);
      }),
    );
}
