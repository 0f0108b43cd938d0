import { createInterface } from "node:readline/promises";
import { UsageError } from "../core/platform/errors.ts";

/**
 * Has somebody repeat `word` before what can't be undone: by `--confirm`, or at a prompt on a terminal.
 * @throws UsageError when it is not repeated.
 */
export async function confirm(options: {
  /** What will happen, as a sentence. */
  warning: string;
  word: string;
  /** What `--confirm` said. */
  given: string | undefined;
  /** False after `--no-input`. */
  input: boolean;
}): Promise<void> {
  const { warning, word, given, input } = options;
  const mayAsk = input && process.stdin.isTTY;
  const answer = given ?? (mayAsk ? await ask(`${warning} Type ${word} to go on: `) : undefined);
  if (answer === word) return;
  throw new UsageError("not_confirmed", `${warning} Nothing was changed: confirm with --confirm ${word}`);
}

async function ask(question: string): Promise<string> {
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await prompt.question(question)).trim();
  } finally {
    prompt.close();
  }
}
