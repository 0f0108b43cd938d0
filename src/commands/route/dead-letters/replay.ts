import { Command } from "commander";
import { replayDeadLetter, selectDeadLetters } from "../../../core/router/dead-letters.ts";
import { printJson, say } from "../../output.ts";
import { withStore } from "../../session.ts";
import { plainText } from "../../tenant/options.ts";
import { eachOf, printItems } from "./items.ts";
import { parseId, parseSince, selectionOf } from "./selection.ts";

export function command(): Command {
  return new Command()
    .argument("[id...]", "as `openclaw route dead-letters list` shows them", parseId, [])
    .option("--tenant <tenant>", "all of this tenant, by slug or id")
    .option("--since <when>", "all given up since: 90m, 12h, 2d or a time", parseSince)
    .option("--all", "all of them")
    .option("--reason <text>", "for the audit log", plainText)
    .option("--dry-run", "say what would happen and change nothing")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw route dead-letters replay --tenant alice --since 2h")
    .action(async (ids: number[], { reason, dryRun, json, ...selectors }) =>
      withStore(async (store) => {
        const selection = await selectionOf(store, ids, selectors);
        const found = await selectDeadLetters(store.db, selection);
        if (dryRun) {
          say(`Would replay ${found.length} dead letters.`);
          return json ? printJson({ wouldReplay: found }) : undefined;
        }
        // Ids that are not there are reported with the others.
        const missing = ids.filter((id) => !found.includes(id));
        const items = await eachOf(
          [...found, ...missing],
          async (id) => (await replayDeadLetter(store, id, reason)).kind,
        );
        printItems(items, json);
      }),
    );
}
