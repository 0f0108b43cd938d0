import { Counter, Gauge, type Registry } from "prom-client";
import type { PacerState } from "../core/adapters/telegram/pacer.ts";

/** Shows how this daemon keeps within what Telegram takes from the bot. */
export function showPacer(registry: Registry, read: () => PacerState): void {
  const registers = [registry];
  const gauges: [name: string, help: string, pick: (state: PacerState) => number][] = [
    ["openclaw_telegram_calls_waiting", "Calls that wait for their turn in this daemon.", (state) => state.waiting],
    [
      "openclaw_telegram_pace_shared",
      "1 while daemons share the pace through Redis, 0 while each keeps a part of its own.",
      (state) => Number(state.isShared),
    ],
  ];
  for (const [name, help, pick] of gauges) {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(pick(read()));
      },
    });
  }
  const counters: [name: string, help: string, pick: (state: PacerState) => number][] = [
    ["openclaw_telegram_calls_admitted_total", "Calls that got their turn.", (state) => state.admitted],
    ["openclaw_telegram_calls_refused_total", "Calls told to come back: the queue was full.", (state) => state.refused],
    ["openclaw_telegram_actions_shed_total", "Chat actions left out for want of room.", (state) => state.shed],
    ["openclaw_telegram_slow_downs_total", "How often Telegram asked for patience.", (state) => state.slowDowns],
  ];
  for (const [name, help, pick] of counters) {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(pick(read()));
      },
    });
  }
}
