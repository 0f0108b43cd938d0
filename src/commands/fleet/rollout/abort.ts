import { Command } from "commander";
import { abortRollout } from "../../../core/orchestrator/orchestrator.ts";
import { withStore } from "../../session.ts";
import { plainText } from "../../tenant/options.ts";
import { report } from "./follow.ts";
import { withWaitOptions } from "./options.ts";

export function command(): Command {
  return withWaitOptions(
    new Command()
      .option("--rollback", "have everybody that was moved go back")
      .option("--reason <text>", "for the audit log", plainText, "asked by an operator"),
  )
    .addHelpText("after", "\nExample:\n  openclaw fleet rollout abort --rollback --reason 'it forgets names'")
    .action(async ({ rollback = false, reason, ...options }) =>
      withStore(async (store) => {
        const id = await abortRollout(store, { takesBack: rollback, reason });
        await report(store, id, { ...options, hopesFor: "aborted" });
      }),
    );
}
