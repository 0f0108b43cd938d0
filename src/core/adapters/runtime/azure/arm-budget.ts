import type pg from "pg";
import { DeferredError } from "../../../platform/errors.ts";
import type { Log } from "../../../platform/log.ts";
import { pause } from "../../../platform/pause.ts";
import type { Urgency } from "../runtime-driver.ts";
import { type ArmBudgetState, claimCall, readBudgets, recordThrottling } from "./arm-budget-store.ts";

export { type ArmBudgetState, readBudgets } from "./arm-budget-store.ts";

/** How long a caller waits for its turn before it is told to come back. A sweep that gives up has called in vain. */
const PATIENCE_MS: Record<Urgency, number> = {
  wake: 20_000,
  provision: 15_000,
  repair: 10_000,
  sweep: 20_000,
  rollout: 30_000,
};
/** When Azure throttles without saying for how long. */
const BLOCK_MS = 10_000;
const SHORTEST_BLOCK_MS = 1_000;
/** Whoever asks for more is mistaken, and must not stop the fleet for days. */
const LONGEST_BLOCK_MS = 3_600_000;
const SHORTEST_PAUSE_MS = 20;

/**
 * What Azure Resource Manager is asked of one subscription, shared by all daemons through PostgreSQL: never more than so many calls in
 * any minute, the urgent ones first, sweeps a quarter at most, half the pace once Azure throttles.
 */
export type ArmBudget = {
  /**
   * Takes one call, waiting for it if need be, without holding a connection meanwhile.
   * @throws DeferredError when it takes longer than the urgency is worth waiting for; the signal's reason once it aborts.
   */
  take(urgency: Urgency, signal: AbortSignal | undefined): Promise<void>;
  /** Azure refused a call for want of patience; `retryAfterMs` as it said, undefined if it didn't. */
  throttled(retryAfterMs: number | undefined): Promise<void>;
  state(): Promise<ArmBudgetState | undefined>;
};

export function createArmBudget(options: {
  pool: pg.Pool;
  subscriptionId: string;
  callsPerMinute: number;
  log: Log;
}): ArmBudget {
  const { pool, callsPerMinute, log } = options;
  // Azure writes its ids in any case.
  const key = { subscriptionId: options.subscriptionId.toLowerCase(), callsPerMinute };
  const never = new AbortController().signal;
  return {
    async take(urgency, signal = never) {
      const deadline = performance.now() + PATIENCE_MS[urgency];
      for (;;) {
        signal.throwIfAborted();
        const patienceMs = Math.max(0, deadline - performance.now());
        const { waitMs, isBlocked } = await claimCall(pool, key, { urgency, patienceMs });
        if (waitMs === 0) return;
        if (waitMs > patienceMs) throw putOff(isBlocked ? BLOCKED : describeSpent(urgency), waitMs);
        await pause(Math.max(SHORTEST_PAUSE_MS, waitMs), signal);
      }
    },
    async throttled(retryAfterMs = BLOCK_MS) {
      const blockMs = Math.min(Math.max(retryAfterMs, SHORTEST_BLOCK_MS), LONGEST_BLOCK_MS);
      const noted = await recordThrottling(pool, key, blockMs);
      const fields = { subscriptionId: key.subscriptionId, blockMs, callsPerMinute: noted.callsPerMinute };
      if (noted.isSlower) log.warn(fields, "Azure throttles, it is called at half the pace from now on");
    },
    async state() {
      const budgets = await readBudgets(pool, callsPerMinute);
      return budgets.find(({ subscriptionId }) => subscriptionId === key.subscriptionId);
    },
  };
}

const BLOCKED = "Azure asked to be left alone for a while; it is called again after that.";

/** The same for every try, so that the journal counts them as one. */
function describeSpent(urgency: Urgency): string {
  return `What Azure may be asked in a minute is spent, as far as it is there for ${urgency}; it goes on by itself. See AZURE_ARM_CALLS_PER_MINUTE.`;
}

function putOff(why: string, afterMs: number): DeferredError {
  return new DeferredError("arm_budget_spent", why, { service: "azure", afterMs });
}
