import { Counter, Gauge, type Registry } from "prom-client";
import type { ArmBudgetState } from "../core/adapters/runtime/azure/arm-budget.ts";
import { URGENCIES } from "../core/adapters/runtime/runtime-driver.ts";
import { remember } from "./remember.ts";

const BUDGET_MS = 5_000;
const labelNames = ["subscription"];

/**
 * Shows what Azure is asked of each subscription, over all daemons: the same in each of them, so add nothing up. While the database
 * does not answer, there is none of it.
 */
export function showArmBudgets(registry: Registry, readBudgets: () => Promise<ArmBudgetState[]>): void {
  const read = remember(BUDGET_MS, readBudgets);
  const registers = [registry];
  const gauges: [name: string, help: string, pick: (budget: ArmBudgetState) => number][] = [
    ["openclaw_arm_budget_remaining_calls", "Calls that may be made at once.", ({ remaining }) => remaining],
    [
      "openclaw_arm_budget_calls_per_minute",
      "Calls a minute at the moment: AZURE_ARM_CALLS_PER_MINUTE, less after Azure throttled.",
      ({ callsPerMinute }) => callsPerMinute,
    ],
    [
      "openclaw_arm_blocked_seconds",
      "For so long Azure is left alone, as it asked; 0 when it may be called.",
      ({ blockedMs }) => blockedMs / 1_000,
    ],
  ];
  for (const [name, help, pick] of gauges) {
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      async collect() {
        const budgets = await read();
        this.reset();
        for (const budget of budgets ?? []) this.set({ subscription: budget.subscriptionId }, pick(budget));
      },
    });
  }
  new Counter({
    name: "openclaw_arm_calls_total",
    help: "Calls of Azure Resource Manager that were let through, by urgency.",
    labelNames: [...labelNames, "urgency"],
    registers,
    async collect() {
      const budgets = await read();
      this.reset();
      for (const { subscriptionId: subscription, spent } of budgets ?? [])
        for (const urgency of URGENCIES) this.inc({ subscription, urgency }, spent[urgency]);
    },
  });
  new Counter({
    name: "openclaw_arm_throttled_total",
    help: "Calls that Azure answered with 429.",
    labelNames,
    registers,
    async collect() {
      const budgets = await read();
      this.reset();
      for (const { subscriptionId: subscription, throttled } of budgets ?? []) this.inc({ subscription }, throttled);
    },
  });
}
