import { Command } from "commander";
import { dropDeadLetter, selectDeadLetters } from "../../../core/router/dead-letters.ts";
import { getTenant } from "../../../core/tenants/tenants.ts";
import { confirm } from "../../confirm.ts";
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
    .option("--confirm <word>", "the tenant's slug, or without --tenant how many are dropped, for scripts")
    .option("--dry-run", "say what would happen and change nothing")
    .option("--no-input", "never ask")
    .option("--reason <text>", "for the audit log", plainText)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw route dead-letters drop 17 18 --confirm 2")
    .action(async (ids: number[], { confirm: given, dryRun, input, reason, json, ...selectors }) =>
      withStore(async (store) => {
        const selection = await selectionOf(store, ids, selectors);
        const found = await selectDeadLetters(store.db, selection);
        if (dryRun) {
          say(`Would drop ${found.length} dead letters.`);
          return json ? printJson({ wouldDrop: found }) : undefined;
        }
        if (found.length > 0) {
          const { tenant } = selectors;
          const word = tenant === undefined ? String(found.length) : (await getTenant(store.db, tenant)).slug;
          await confirm({ warning: `This forgets ${found.length} undelivered updates for good.`, word, given, input });
        }
        const missing = ids.filter((id) => !found.includes(id));
        const items = await eachOf(
          [...found, ...missing],
          async (id) => (await dropDeadLetter(store, id, reason)).kind,
        );
        printItems(items, json);
      }),
    );
}
