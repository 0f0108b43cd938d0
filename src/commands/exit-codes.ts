import { CommanderError } from "commander";
import { assertNever, ConfigError, OpenClawError } from "../core/platform/errors.ts";

/** What the shell is told. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (isInterrupt(error)) return 130;
  if (!(error instanceof OpenClawError)) return 1;
  switch (error.kind) {
    case "usage":
      return 2;
    case "config":
      return 3;
    case "not-found":
      return 4;
    case "conflict":
      return 5;
    case "upstream":
      return 6;
    case "partial":
      return 7;
    case "finding":
      return 8;
    case "timeout":
      return 9;
    default:
      return assertNever(error.kind);
  }
}

/** The lines that a person reads on standard error. */
export function describeError(error: unknown): string {
  if (error instanceof ConfigError) return error.problems.map((problem) => `error: ${problem}`).join("\n");
  if (error instanceof OpenClawError) return `error: ${error.message}`;
  if (isInterrupt(error)) return "interrupted";
  const stack = error instanceof Error ? error.stack : String(error);
  return `error: this is a bug in openclaw, please report it\n${stack}`;
}

/** The document that stands on standard output with --json when a command failed. */
export function errorDocument(error: unknown): { error: { code: string; message: string } } {
  if (error instanceof OpenClawError) return { error: { code: error.code, message: error.message } };
  if (error instanceof CommanderError) {
    return { error: { code: "usage", message: error.message.replace(/^error: /, "") } };
  }
  if (isInterrupt(error)) return { error: { code: "interrupted", message: "It was interrupted." } };
  return { error: { code: "unexpected", message: error instanceof Error ? error.message : String(error) } };
}

/** What an aborted signal throws: somebody pressed Ctrl-C, and what was under way has been ended. */
function isInterrupt(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}
