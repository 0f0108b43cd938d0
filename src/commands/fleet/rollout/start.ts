import { Command, Option } from "commander";
import { DEFAULT_COHORTS, previewRollout, startRollout } from "../../../core/orchestrator/orchestrator.ts";
import { printJson, printLine } from "../../output.ts";
import { withStore } from "../../session.ts";
import { readReleaseChange, withEnvironment, withReleaseOptions } from "../release-options.ts";
import { describePreview } from "./describe.ts";
import { report } from "./follow.ts";
import { withPaceOptions, withWaitOptions } from "./options.ts";

export function command(): Command {
  const command = withReleaseOptions(new Command())
    .addOption(new Option("--status <status...>", "only these").choices(["active", "suspended"]))
    .addOption(new Option("--tier <tier>", "only this tier").choices(["basic", "plus"]))
    .option("--tag <tag>", "only with this tag")
    .option("--dry-run", "change nothing, and show who would be moved");
  return withWaitOptions(withPaceOptions(command, { parallel: 5, cohorts: DEFAULT_COHORTS }))
    .addHelpText(
      "after",
      "\nWithout --image and --model-…, those who have another release get the current one.\n\nExamples:\n  openclaw fleet rollout start --image ghcr.io/openclaw/openclaw:2026.9.6 --dry-run\n  openclaw fleet rollout start --tag canary --image ghcr.io/openclaw/openclaw:2026.9.6 --wait",
    )
    .action(async (options) =>
      withStore(async (store) => {
        const { status, tier, tag, force = false, deadline: deadlineSeconds, dryRun, wait, timeout, json } = options;
        const { cohorts, parallel, maxFailures } = options;
        const change = await readReleaseChange(store.config, options);
        const selector = { ...(status && { status }), ...(tier && { tier }), ...(tag && { tag }) };
        const wish = { change, selector, force, cohorts, parallel, maxFailures, deadlineSeconds };
        const ctx = withEnvironment(store);
        if (!dryRun) return report(store, await startRollout(ctx, wish), { wait, timeout, json });
        const preview = await previewRollout(ctx, wish);
        if (json) return printJson(preview);
        for (const line of describePreview(preview)) printLine(line);
      }),
    );
}
