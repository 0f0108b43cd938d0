import { Command } from "commander";
import { readFleetBudget, setFleetCap, stopModels } from "../../../core/billing/billing.ts";
import { UsageError } from "../../../core/platform/errors.ts";
import { formatMicroUsd, formatUse, microUsd } from "../../money.ts";
import { printJson, say } from "../../output.ts";
import { withStore } from "../../session.ts";
import { plainText } from "../../tenant/options.ts";

export function command(): Command {
  return new Command()
    .option("--usd <amount>", "what all tenants together may spend on models in a month of UTC", microUsd)
    .option("--stop", "let no model call through from now on, whatever is left")
    .option("--reason <text>", "why they are stopped", plainText, "asked by an operator")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nExamples:\n  openclaw billing budget cap --usd 250\n  openclaw billing budget cap --stop --reason 'a key leaked'",
    )
    .action(async ({ usd, stop, reason, json }) =>
      withStore(async (store) => {
        if (usd === undefined && stop === undefined)
          throw new UsageError("cap_missing", "Give --usd, --stop, or both.");
        if (usd !== undefined) await setFleetCap(store, usd);
        if (stop) await stopModels(store, reason);
        const fleet = await readFleetBudget(store.db, store.clock.now());
        if (json) return printJson(fleet);
        if (usd !== undefined) {
          const use = formatUse(fleet.spentMicroUsd, fleet.allowedMicroUsd, formatMicroUsd);
          say(`All tenants together: ${use} in ${fleet.utcMonth}.`);
        }
        if (stop) say("Model calls are stopped; lift it with: openclaw billing budget uncap --stop");
      }),
    );
}
