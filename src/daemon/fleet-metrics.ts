import { Counter, Gauge, type Registry } from "prom-client";
import { type Drift, DRIFT_KINDS, type SweepResult, type SweepState } from "../core/orchestrator/orchestrator.ts";
import { remember } from "./remember.ts";

const SWEEPS_MS = 5_000;
const RESULTS: readonly SweepResult[] = ["done", "deferred", "failed", "busy"];

/** Counts what this daemon's sweeps find, and shows how long ago the fleet's last one ended well. */
export function createFleetMetrics(registry: Registry, readSweeps: () => Promise<SweepState>) {
  const registers = [registry];
  const sweeps = new Counter({
    name: "openclaw_sweeps_total",
    help: "Comparisons of what runs with what should, begun by this daemon, by result.",
    labelNames: ["result"],
    registers,
  });
  const drift = new Counter({
    name: "openclaw_drift_found_total",
    help: "Differences that this daemon's sweeps found, by kind; one that stays is found again by the next.",
    labelNames: ["kind"],
    registers,
  });
  for (const result of RESULTS) sweeps.inc({ result }, 0);
  for (const kind of DRIFT_KINDS) drift.inc({ kind }, 0);
  showSweeps(registry, readSweeps);
  return {
    swept(result: SweepResult, found: readonly Drift[]) {
      sweeps.inc({ result });
      for (const { kind } of found) drift.inc({ kind });
    },
  };
}

/** The same in every daemon: add nothing up. While the database does not answer, they are not a number. */
function showSweeps(registry: Registry, readSweeps: () => Promise<SweepState>): void {
  const read = remember(SWEEPS_MS, readSweeps);
  const gauges: [name: string, help: string, pick: (sweeps: SweepState) => number | null][] = [
    [
      "openclaw_sweep_age_seconds",
      "Since the last sweep over all runtimes that ended well; not a number before the first.",
      ({ ageSeconds }) => ageSeconds,
    ],
    ["openclaw_runtimes_seen", "Runtimes that the last sweep found.", ({ runtimes }) => runtimes],
    ["openclaw_orphans", "Runtimes without a tenant that it found.", ({ orphans }) => orphans.length],
  ];
  for (const [name, help, pick] of gauges) {
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        const sweeps = await read();
        this.set((sweeps && pick(sweeps)) ?? Number.NaN);
      },
    });
  }
}
