import { Command } from "commander";
import type { Store } from "../../../core/context.ts";
import { isSettled, readProgress } from "../../../core/orchestrator/orchestrator.ts";
import { UsageError } from "../../../core/platform/errors.ts";
import type { RolloutId } from "../../../core/platform/ids.ts";
import { printJson, printLine } from "../../output.ts";
import { withStore } from "../../session.ts";
import { summarise } from "./describe.ts";
import { followRollout, printProgress } from "./follow.ts";
import { rolloutNumber } from "./options.ts";

export function command(): Command {
  return new Command()
    .argument("[rollout]", "its number; left out: the latest", rolloutNumber)
    .option("--watch", "as it goes on, until nothing is left to be done")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nExamples:\n  openclaw fleet rollout status --watch\n  openclaw fleet rollout status 4 --json",
    )
    .action(async (id: RolloutId | undefined, { watch, json }) => {
      if (watch && json) throw new UsageError("options_conflict", "--json prints one document; leave --watch out.");
      await withStore(async (store) => {
        const now = store.clock.now();
        const progress = await readProgress(store.db, id, now);
        if (json) return printJson(progress);
        if (!watch || isSettled(progress)) return printProgress(progress, now);
        await (process.stdout.isTTY ? show(store, progress.id) : tell(store, progress.id));
      });
    });
}

/** A line whenever something has changed, and all of it at the end. */
async function tell(store: Store, id: RolloutId): Promise<void> {
  let told = "";
  for await (const progress of followRollout(store, id)) {
    const line = summarise(progress);
    if (line !== told) printLine(line);
    told = line;
  }
  const now = store.clock.now();
  printProgress(await readProgress(store.db, id, now), now);
}

/** On a terminal, in place. */
async function show(store: Store, id: RolloutId): Promise<void> {
  const [{ render }, { createElement }, { RolloutView }] = await Promise.all([
    import("ink"),
    import("react"),
    import("../../views/rollout.tsx"),
  ]);
  const first = await readProgress(store.db, id, store.clock.now());
  const app = render(createElement(RolloutView, { progress: first, now: store.clock.now() }));
  for await (const progress of followRollout(store, id))
    app.rerender(createElement(RolloutView, { progress, now: store.clock.now() }));
  app.unmount();
  await app.waitUntilExit();
}
