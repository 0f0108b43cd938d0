import assert from "node:assert/strict";
import test from "node:test";
import { Registry } from "prom-client";
import type { ArmBudgetState } from "../core/adapters/runtime/azure/arm-budget.ts";
import { showArmBudgets } from "./arm-metrics.ts";

const BUDGET: ArmBudgetState = {
  subscriptionId: "one",
  remaining: 7.5,
  callsPerMinute: 30,
  blockedUntil: new Date("2026-03-01T12:00:09Z"),
  blockedMs: 8_500,
  spent: { wake: 1, provision: 2, repair: 3, sweep: 4, rollout: 5 },
  throttled: 2,
};

async function scrape(registry: Registry): Promise<string[]> {
  return (await registry.metrics()).split("\n").filter((line) => line.startsWith("openclaw"));
}

test("each scrape shows every subscription's budget, and adds nothing up twice", async () => {
  const registry = new Registry();
  showArmBudgets(registry, async () => [
    BUDGET,
    { ...BUDGET, subscriptionId: "two", blockedUntil: undefined, blockedMs: 0 },
  ]);
  for (let time = 1; time <= 2; time += 1) {
    const shown = await scrape(registry);
    assert.ok(shown.includes('openclaw_arm_budget_remaining_calls{subscription="one"} 7.5'));
    assert.ok(shown.includes('openclaw_arm_budget_calls_per_minute{subscription="two"} 30'));
    assert.ok(shown.includes('openclaw_arm_blocked_seconds{subscription="one"} 8.5'));
    assert.ok(shown.includes('openclaw_arm_blocked_seconds{subscription="two"} 0'));
    assert.ok(shown.includes('openclaw_arm_throttled_total{subscription="two"} 2'));
    assert.ok(shown.includes('openclaw_arm_calls_total{subscription="one",urgency="rollout"} 5'));
    assert.equal(shown.length, 2 * (3 + 5 + 1));
  }
});

test("a database that does not answer leaves the rest of a scrape alone", async () => {
  const registry = new Registry();
  showArmBudgets(registry, () => Promise.reject(new Error("the database is away")));
  assert.deepEqual(await scrape(registry), []);
});
