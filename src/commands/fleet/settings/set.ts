import { Command } from "commander";
import { describeContent, setSettings } from "../../../core/orchestrator/orchestrator.ts";
import { UsageError } from "../../../core/platform/errors.ts";
import { printJson, say } from "../../output.ts";
import { withStore } from "../../session.ts";
import { readReleaseChange, withEnvironment, withReleaseOptions } from "../release-options.ts";

export function command(): Command {
  return withReleaseOptions(new Command())
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nWho runs already keeps what it has, until: openclaw fleet rollout start\n\nExample:\n  openclaw fleet settings set --image ghcr.io/openclaw/openclaw:2026.9.6",
    )
    .action(async ({ json, force = false, ...options }) =>
      withStore(async (store) => {
        const change = await readReleaseChange(store.config, options);
        if (Object.keys(change).length === 0)
          throw new UsageError("settings_missing", "Give --image, --model-basic, --model-plus, or several of them.");
        const release = await setSettings(withEnvironment(store), change, { force });
        if (json) return printJson(release);
        say(`New tenants get release ${release.id}: ${describeContent(release)}.`);
        say("Give it to the others with: openclaw fleet rollout start");
      }),
    );
}
