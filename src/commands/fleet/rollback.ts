import { Command } from "commander";
import { previewRollback, startRollback } from "../../core/orchestrator/orchestrator.ts";
import type { ReleaseId } from "../../core/platform/ids.ts";
import { printJson, printLine } from "../output.ts";
import { withStore } from "../session.ts";
import { plainText } from "../tenant/options.ts";
import { withEnvironment } from "./release-options.ts";
import { describePreview } from "./rollout/describe.ts";
import { report } from "./rollout/follow.ts";
import { rolloutNumber, withPaceOptions, withWaitOptions } from "./rollout/options.ts";

export function command(): Command {
  const command = new Command()
    .option("--to <release>", "another one than the last that was good", rolloutNumber)
    .option("--reason <text>", "what is wrong with the current one", plainText, "asked by an operator")
    .option("--dry-run", "change nothing, and show who would be moved");
  return withWaitOptions(withPaceOptions(command, { parallel: 10, cohorts: ["100%"] }))
    .addHelpText(
      "after",
      "\nA rollout that is not over is taken back with: openclaw fleet rollout abort --rollback\n\nExample:\n  openclaw fleet rollback --reason 'it forgets names' --wait",
    )
    .action(async ({ to, reason, deadline: deadlineSeconds, dryRun, wait, timeout, json, ...pace }) =>
      withStore(async (store) => {
        const { cohorts, parallel, maxFailures } = pace;
        const release: ReleaseId | undefined = to;
        const wish = { to: release, reason, cohorts, parallel, maxFailures, deadlineSeconds };
        const ctx = withEnvironment(store);
        if (!dryRun) return report(store, await startRollback(ctx, wish), { wait, timeout, json });
        const preview = await previewRollback(ctx, wish);
        if (json) return printJson(preview);
        for (const line of describePreview(preview)) printLine(line);
      }),
    );
}
