import { errorMessage } from "./errors.ts";
import { pause } from "./pause.ts";

/** What one look showed; a remedy says what to do about it. */
export type CheckResult = { status: "ok" | "warning" | "failed"; message: string; remedy?: string };

/** One look at one thing, which changes nothing that stays. What it throws is what failed. */
export type Check = {
  name: string;
  run(): Promise<CheckResult>;
  /** How long it may take; 10 s unless told. */
  timeoutMs?: number;
};

const TIMEOUT_MS = 10_000;

export function ok(message: string): CheckResult {
  return { status: "ok", message };
}

export function warning(message: string, remedy: string): CheckResult {
  return { status: "warning", message, remedy };
}

export function failed(message: string, remedy: string): CheckResult {
  return { status: "failed", message, remedy };
}

/** All at once, each within its time; the results in the order of the checks. */
export async function runChecks(checks: readonly Check[]): Promise<(CheckResult & { name: string })[]> {
  return Promise.all(checks.map(async (check) => ({ name: check.name, ...(await runCheck(check)) })));
}

async function runCheck({ run, timeoutMs = TIMEOUT_MS }: Check): Promise<CheckResult> {
  const ended = new AbortController();
  const late = pause(timeoutMs, ended.signal).then(() => ({
    status: "failed" as const,
    message: `no answer within ${timeoutMs / 1_000} s`,
  }));
  try {
    return await Promise.race([run(), late]);
  } catch (error) {
    // That it can't be looked at is what the check found.
    return { status: "failed", message: errorMessage(error) };
  } finally {
    ended.abort();
  }
}
