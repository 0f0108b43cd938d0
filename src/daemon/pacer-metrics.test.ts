import assert from "node:assert/strict";
import test from "node:test";
import { Registry } from "prom-client";
import { showPacer } from "./pacer-metrics.ts";

test("each scrape shows the pacer as it is then, and adds nothing up twice", async () => {
  const registry = new Registry();
  let state = { isShared: true, waiting: 3, admitted: 40, refused: 5, shed: 6, slowDowns: 7 };
  showPacer(registry, () => state);
  const scrape = async () => (await registry.metrics()).split("\n").filter((line) => line.startsWith("openclaw"));
  const shown = (values: number[]) => [
    `openclaw_telegram_calls_waiting ${values[0]}`,
    `openclaw_telegram_pace_shared ${values[1]}`,
    `openclaw_telegram_calls_admitted_total ${values[2]}`,
    `openclaw_telegram_calls_refused_total ${values[3]}`,
    `openclaw_telegram_actions_shed_total ${values[4]}`,
    `openclaw_telegram_slow_downs_total ${values[5]}`,
  ];
  for (let time = 1; time <= 2; time += 1) assert.deepEqual(await scrape(), shown([3, 1, 40, 5, 6, 7]));
  state = { isShared: false, waiting: 0, admitted: 41, refused: 5, shed: 6, slowDowns: 8 };
  assert.deepEqual(await scrape(), shown([0, 0, 41, 5, 6, 8]));
});
