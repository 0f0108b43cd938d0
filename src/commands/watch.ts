import { setTimeout as delay } from "node:timers/promises";
import { UsageError } from "../core/platform/errors.ts";
import { isOutputClosed } from "./broken-output.ts";
import { printLine } from "./output.ts";

const WATCH_MS = 2_000;
const CLEAR_SCREEN = "\u001B[H\u001B[2J";

/** Shows once, or with `--watch` again every two seconds until Ctrl-C, on a terminal in place of what was shown before. */
export async function showWatched(
  { watch, json }: { watch?: boolean; json?: boolean },
  show: () => Promise<void>,
): Promise<void> {
  if (watch === true && json === true)
    throw new UsageError("options_conflict", "--json prints one document; leave --watch out.");
  for (;;) {
    if (watch === true && process.stdout.isTTY) process.stdout.write(CLEAR_SCREEN);
    await show();
    if (watch !== true || isOutputClosed()) return;
    await delay(WATCH_MS);
    if (!process.stdout.isTTY) printLine("");
  }
}
