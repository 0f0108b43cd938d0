import { Command } from "commander";
import { listChecks } from "../core/checks/checks.ts";
import type { Store } from "../core/context.ts";
import { type Check, type CheckResult, runChecks } from "../core/platform/check.ts";
import { systemClock } from "../core/platform/clock.ts";
import type { Config, Secrets } from "../core/platform/config.ts";
import { ConfigError, FindingError } from "../core/platform/errors.ts";
import { printJson, printLine, say } from "./output.ts";
import { explainDatabaseError, loadSettings, openSession } from "./session.ts";

type Named = CheckResult & { name: string };

export function command(): Command {
  return new Command()
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw check")
    .action(async ({ json }) => {
      const results = await look();
      const counts = { ok: 0, warning: 0, failed: 0 };
      for (const { status } of results) counts[status] += 1;
      if (json) printJson({ counts, checks: results.map((result) => ({ remedy: null, ...result })) });
      else print(results);
      if (counts.failed > 0) throw new FindingError("check_failed", `${counts.failed} of ${results.length} failed.`);
      if (!json) say(counts.warning === 0 ? "All is well." : `${counts.warning} of ${results.length} need a look.`);
    });
}

async function look(): Promise<Named[]> {
  try {
    return await lookWith(await loadSettings());
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    // Without a configuration there is nothing else to look at.
    const remedy = "Correct it in the environment or in .env.";
    return error.problems.map((message) => ({ name: "configuration", status: "failed", message, remedy }));
  }
}

async function lookWith(settings: { config: Config; secrets: Secrets }): Promise<Named[]> {
  let opened: Promise<Store> | undefined;
  const openStore = () => (opened ??= openSession(settings));
  try {
    return await runChecks((await listChecks(settings, openStore, systemClock)).map(inOurWords));
  } finally {
    // One that could not be opened was reported, and holds nothing.
    const [store] = await Promise.allSettled([opened]);
    if (store.status === "fulfilled") await store.value?.close();
  }
}

function inOurWords({ run, ...check }: Check): Check {
  return {
    ...check,
    async run() {
      try {
        return await run();
      } catch (error) {
        throw explainDatabaseError(error);
      }
    },
  };
}

function print(results: readonly Named[]): void {
  const width = Math.max(...results.map(({ name }) => name.length));
  for (const { name, status, message, remedy } of results) {
    printLine(`${status.padEnd(7)}  ${name.padEnd(width)}  ${message}`);
    if (remedy !== undefined) printLine(`${" ".repeat(width + 11)}→ ${remedy}`);
  }
}
