import { CommanderError, type Command } from "commander";
import { buildProgram } from "./command-tree.ts";
import { FindingError, PartialError } from "../core/platform/errors.ts";
import { describeError, errorDocument, exitCodeOf } from "./exit-codes.ts";

process.exitCode = await run(process.argv.slice(2));

async function run(typed: string[]): Promise<number> {
  const words = inFull(typed);
  try {
    const program = await buildProgram(words);
    throwInsteadOfExit(program);
    await program.parseAsync(words, { from: "user" });
    return 0;
  } catch (error) {
    return report(error, words.includes("--json"));
  }
}

/** What is short for a command and its option. Commander's own help knows only the first of several words. */
function inFull(typed: string[]): string[] {
  const [first = "", ...rest] = typed;
  if (rest.length === 0 && ["--version", "-V"].includes(first)) return ["version"];
  return first === "help" && rest.length > 0 ? [...rest, "--help"] : typed;
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) throwInsteadOfExit(child);
}

function report(error: unknown, json: boolean): number {
  const code = exitCodeOf(error);
  // Commander has already said what it had to say.
  if (!(error instanceof CommanderError)) process.stderr.write(`${describeError(error)}\n`);
  // Findings and partial results were printed as the command's document.
  const hasDocument = error instanceof FindingError || error instanceof PartialError;
  if (json && code !== 0 && !hasDocument) process.stdout.write(`${JSON.stringify(errorDocument(error), null, 2)}\n`);
  return code;
}
