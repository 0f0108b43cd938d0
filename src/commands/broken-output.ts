import { errorMessage } from "../core/platform/errors.ts";

const OUTPUT_FAILED = 6;

/**
 * Says in one line when standard output can't be written, as on a full disk, and makes that the exit code of a command that
 * otherwise succeeded. A reader that has gone (`| head`) is no failure. Either way the command goes on to its end: what it
 * does matters more than what it prints.
 */
export function watchOutput() {
  let failure: unknown;
  process.stdout.on("error", (error) => {
    if (failure !== undefined) return;
    failure = error;
    if (isReaderGone(error)) return;
    process.stderr.write(`error: the output can't be written: ${errorMessage(error)}\n`);
    process.once("exit", (code) => {
      if (code === 0) process.exitCode = OUTPUT_FAILED;
    });
  });
  // There is nowhere left to say it.
  process.stderr.on("error", () => undefined);
  return {
    /** Whether `error` has been dealt with here. */
    hasFailedWith: (error: unknown) => failure !== undefined && error === failure,
  };
}

/** Whether nobody reads the output any more: time to end what goes on for as long as somebody looks at it. */
export function isOutputClosed(): boolean {
  return process.stdout.errored !== null || process.stdout.destroyed;
}

function isReaderGone(error: Error): boolean {
  return "code" in error && error.code === "EPIPE";
}
