import { setTimeout as delay } from "node:timers/promises";
import type { Store } from "../../../core/context.ts";
import { isSettled, readProgress, type RolloutProgress } from "../../../core/orchestrator/orchestrator.ts";
import { PartialError, TimeoutError } from "../../../core/platform/errors.ts";
import type { RolloutId } from "../../../core/platform/ids.ts";
import { isOutputClosed } from "../../broken-output.ts";
import { printFields, printJson, printLine, printTable, say } from "../../output.ts";
import { describeProgress, summarise } from "./describe.ts";

const POLL_MS = 500;

/** Reads a rollout again and again, until nothing is left to be done, or nobody looks any more. */
export async function* followRollout(store: Store, id: RolloutId): AsyncGenerator<RolloutProgress, void, void> {
  for (;;) {
    const progress = await readProgress(store.db, id, store.clock.now());
    yield progress;
    if (isSettled(progress) || isOutputClosed()) return;
    await delay(POLL_MS);
  }
}

/**
 * Says what was begun, or with `wait` how it goes, and prints what became of it.
 * @throws TimeoutError after `timeout` seconds, while it goes on; PartialError unless everybody got there.
 */
export async function report(
  store: Store,
  id: RolloutId,
  options: { wait?: boolean; timeout: number; json?: boolean; hopesFor?: "finished" | "aborted" },
): Promise<void> {
  const { wait = false, timeout, json = false, hopesFor = "finished" } = options;
  const last = wait ? await waitFor(store, id, timeout * 1_000) : await readProgress(store.db, id, store.clock.now());
  if (json) printJson(last);
  else if (wait) printProgress(last, store.clock.now());
  else say(`${upperFirst(summarise(last))}. See: openclaw fleet rollout status --watch`);
  const failed = hopesFor === "finished" ? last.failures : last.counts.failed;
  if (!wait || (last.status === hopesFor && failed === 0)) return;
  const reason = last.reason === null ? "" : `: ${last.reason}`;
  throw new PartialError(
    "rollout_partial",
    `The ${last.kind} is ${last.status}${reason}; ${failed} of ${last.tenants} tenants failed.`,
  );
}

async function waitFor(store: Store, id: RolloutId, timeoutMs: number): Promise<RolloutProgress> {
  const deadline = performance.now() + timeoutMs;
  let said = "";
  for await (const progress of followRollout(store, id)) {
    const line = summarise(progress);
    if (line !== said) say(line);
    said = line;
    if (isSettled(progress)) return progress;
    if (performance.now() >= deadline) {
      throw new TimeoutError("wait_timeout", `After ${timeoutMs / 1_000} s ${line}; it goes on. Is a daemon running?`);
    }
  }
  return readProgress(store.db, id, store.clock.now());
}

/** All of it, as text. */
export function printProgress(progress: RolloutProgress, now: Date): void {
  printFields(describeProgress(progress, now));
  if (progress.cohorts.length > 0) {
    printLine("");
    printTable(
      ["COHORT", "UP TO", "TENANTS", "TO COME", "ON THEIR WAY", "HEALTHY", "MOVED ASLEEP", "BACK", "FAILED", "SKIPPED"],
      progress.cohorts.map(({ size, tenants, counts }, index) =>
        [
          index + 1,
          size,
          tenants,
          counts.pending,
          counts.moving + counts["rolling-back"],
          counts.healthy,
          counts["moved-asleep"],
          counts["rolled-back"],
          counts.failed,
          counts.skipped,
        ].map(String),
      ),
    );
  }
  if (progress.problems.length === 0) return;
  printLine("");
  printTable(
    ["TENANT", "STATE", "WHY"],
    progress.problems.map(({ tenant, state, reason }) => [tenant, state, reason ?? ""]),
  );
}

function upperFirst(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
