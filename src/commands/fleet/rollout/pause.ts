import { Command } from "commander";
import { pauseRollout } from "../../../core/orchestrator/orchestrator.ts";
import { withStore } from "../../session.ts";
import { plainText } from "../../tenant/options.ts";
import { report } from "./follow.ts";

export function command(): Command {
  return new Command()
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nWho is on the way gets there; nobody else begins.\n\nExample:\n  openclaw fleet rollout pause",
    )
    .action(async ({ reason, json }) =>
      withStore(async (store) => report(store, await pauseRollout(store, reason), { timeout: 0, json })),
    );
}
