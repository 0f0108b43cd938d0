import { CommanderError, type Command } from "commander";
import { buildProgram, isKnown } from "./command-tree.ts";
import { toPlainText } from "../core/platform/plain-text.ts";
import { describeError, errorDocument, exitCodeOf } from "./exit-codes.ts";
import { watchOutput } from "./broken-output.ts";

const output = watchOutput();
process.exitCode = await run(process.argv.slice(2));

async function run(typed: string[]): Promise<number> {
  const words = inFull(typed);
  if (words.includes("--json")) process.once("SIGINT", (signal) => void endWithDocument(signal));
  try {
    const program = await buildProgram(words);
    throwInsteadOfExit(program);
    await program.parseAsync(words, { from: "user" });
    return 0;
  } catch (error) {
    return await report(error, words.includes("--json"));
  }
}

/** What is short for a command and its option. Commander's own help knows only the first of several words. */
function inFull(typed: string[]): string[] {
  const [first = "", ...rest] = typed;
  if (rest.length === 0 && ["--version", "-V"].includes(first)) return ["version"];
  const words = first === "help" && rest.length > 0 ? [...rest, "--help"] : typed;
  // Commander shows a group's help for a word that it doesn't know: without asking for help, it suggests the nearest.
  return isKnown(words) ? words : words.filter((word) => word !== "--help" && word !== "-h");
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride().configureOutput({ outputError: (text, write) => write(toPlainText(text, "\n")) });
  for (const child of command.commands) throwInsteadOfExit(child);
}

/** Interrupted where nothing else ends it well, a command still prints its one document. */
async function endWithDocument(signal: NodeJS.Signals): Promise<void> {
  if (process.listenerCount(signal) > 0) return;
  process.exit(await report(new DOMException(undefined, "AbortError"), true));
}

async function report(error: unknown, json: boolean): Promise<number> {
  if (output.hasFailedWith(error)) return 0;
  const code = exitCodeOf(error);
  // On demand: a command that prints no table does not load what makes them.
  const { hasPrintedJson, printJson, say } = await import("./output.ts");
  // Commander has already said what it had to say.
  if (!(error instanceof CommanderError)) say(describeError(error));
  // What was found, or came of some of many, was printed before: there is one document.
  if (json && code !== 0 && !hasPrintedJson()) printJson(errorDocument(error));
  return code;
}
