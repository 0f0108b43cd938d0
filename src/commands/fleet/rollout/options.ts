import { type Command, InvalidArgumentError, Option } from "commander";
import { parseCohorts } from "../../../core/orchestrator/orchestrator.ts";
import { UsageError } from "../../../core/platform/errors.ts";
import { numberFrom, patience } from "../../tenant/options.ts";

const MAX_FAILURES = 3;
const DEADLINE_SECONDS = 600;

export const failures = numberFrom(1, 100_000);
export const parallel = numberFrom(1, 1_000);
/** Parses a rollout's number. */
export const rolloutNumber = numberFrom(1, 2_147_483_647);
const deadline = numberFrom(10, 86_400);

/** Adds the options for how fast, and how far it may go wrong. */
export function withPaceOptions(command: Command, defaults: { parallel: number; cohorts: readonly string[] }): Command {
  return command
    .option("--max-failures <count>", "so many tenants that fail halt it", failures, MAX_FAILURES)
    .option("--parallel <count>", "so many tenants at once", parallel, defaults.parallel)
    .addOption(
      new Option(
        "--cohorts <sizes>",
        "who comes first, as numbers of tenants or parts of all; each waits for the one before",
      )
        .argParser(cohorts)
        .default([...defaults.cohorts], defaults.cohorts.join(",")),
    )
    .option(
      "--deadline <seconds>",
      "a tenant that takes longer to become healthy has failed",
      deadline,
      DEADLINE_SECONDS,
    );
}

/** Adds the options for waiting until nothing is left to be done. */
export function withWaitOptions(command: Command): Command {
  return command
    .option("--wait", "until nothing is left to be done")
    .option("--timeout <seconds>", "how long to wait", patience, 3_600)
    .option("--json", "print one JSON document");
}

function cohorts(text: string): string[] {
  try {
    return parseCohorts(text);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new InvalidArgumentError(error.message);
  }
}
