import { say } from "../output.ts";

export type StepReport = { step: string; ms: number; detail?: string };

/** Runs named steps one after the other, tells each as it ends, and keeps the durations; begins none after `signal`. */
export function createSteps(isQuiet: boolean, signal?: AbortSignal) {
  const done: StepReport[] = [];
  return {
    done,
    async run<Result>(step: string, work: () => Promise<Result>, detail?: (result: Result) => string): Promise<Result> {
      signal?.throwIfAborted();
      const begun = performance.now();
      const result = await work();
      const report: StepReport = { step, ms: Math.round(performance.now() - begun) };
      const text = detail?.(result);
      if (text !== undefined) report.detail = text;
      done.push(report);
      if (!isQuiet)
        say(`✓ ${step.padEnd(44)} ${String(report.ms).padStart(6)} ms${text === undefined ? "" : `  ${text}`}`);
      return result;
    },
  };
}
