import { Command } from "commander";
import { readFleetBudget, setFleetCap, stopModels } from "../../../core/billing/billing.ts";
import { confirm } from "../../confirm.ts";
import { printJson, say } from "../../output.ts";
import { withStore } from "../../session.ts";

export function command(): Command {
  return new Command()
    .option("--stop", "let model calls through again; the cap stays")
    .option("--confirm <word>", "repeat `uncapped` to remove the cap without being asked")
    .option("--no-input", "never ask")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nExamples:\n  openclaw billing budget uncap --stop\n  openclaw billing budget uncap --confirm uncapped",
    )
    .action(async ({ stop, confirm: given, input, json }) =>
      withStore(async (store) => {
        if (stop) await stopModels(store, null);
        else {
          const warning = "All tenants together may then spend without limit.";
          await confirm({ warning, word: "uncapped", given, input });
          await setFleetCap(store, null);
        }
        if (json) return printJson(await readFleetBudget(store.db, store.clock.now()));
        say(stop ? "Model calls are let through again." : "There is no cap over all tenants any more.");
      }),
    );
}
