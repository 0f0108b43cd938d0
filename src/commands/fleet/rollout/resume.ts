import { Command } from "commander";
import { resumeRollout } from "../../../core/orchestrator/orchestrator.ts";
import { withStore } from "../../session.ts";
import { plainText } from "../../tenant/options.ts";
import { report } from "./follow.ts";
import { failures, parallel, withWaitOptions } from "./options.ts";

export function command(): Command {
  return withWaitOptions(
    new Command()
      .option("--max-failures <count>", "from now on so many in all halt it", failures)
      .option("--parallel <count>", "from now on so many tenants at once", parallel)
      .option("--reason <text>", "for the audit log", plainText, "asked by an operator"),
  )
    .addHelpText("after", "\nExample:\n  openclaw fleet rollout resume --max-failures 6 --wait")
    .action(async ({ maxFailures, parallel: atOnce, reason, wait, timeout, json }) =>
      withStore(async (store) => {
        const pace = {
          ...(maxFailures === undefined ? {} : { maxFailures }),
          ...(atOnce === undefined ? {} : { parallel: atOnce }),
        };
        await report(store, await resumeRollout(store, pace, reason), { wait, timeout, json });
      }),
    );
}
