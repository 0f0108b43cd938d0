import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Backlog, RouterObserver } from "../core/router/router.ts";
import { remember } from "./remember.ts";

/** What the router's metrics are read from at each scrape. */
export type RouterSources = {
  /** What this daemon has in memory. */
  laneDepth(): { lanes: number; updates: number };
  shardsHeld(): number;
  /** The whole inbox, over all daemons. */
  readBacklog(): Promise<Backlog>;
  now(): Date;
  sendsPerSecond: number;
};

/** Above the ten minutes after which an update is given up. */
const BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 30, 60, 120, 300, 600, 900];
const BACKLOG_MS = 5_000;

/**
 * Counts what the router tells of, and shows what waits. Labels name outcomes and reasons only: a chat or a tenant as a label
 * would be a series each, and would say who writes when.
 */
export function createRouterMetrics(registry: Registry, sources: RouterSources): RouterObserver {
  const registers = [registry];
  const finished = new Counter({
    name: "openclaw_updates_finished_total",
    help: "Updates finished by this daemon, by outcome.",
    labelNames: ["outcome"],
    registers,
  });
  const deferred = new Counter({
    name: "openclaw_updates_deferred_total",
    help: "Tries at an update that were put off, by reason; one update may be put off many times.",
    labelNames: ["reason"],
    registers,
  });
  const sinceAccepted = new Histogram({
    name: "openclaw_delivery_seconds",
    help: "From acceptance, as recorded in the database, to delivery.",
    buckets: BUCKETS_SECONDS,
    registers,
  });
  const sinceCommit = new Histogram({
    name: "openclaw_delivery_after_answer_seconds",
    help: "From the commit that lets the webhook answer to delivery, where one daemon did both.",
    buckets: BUCKETS_SECONDS,
    registers,
  });
  const shardsLost = new Counter({
    name: "openclaw_router_shards_lost_total",
    help: "Shards whose lease was found to have ended, or gone to another daemon, when it was to be renewed.",
    registers,
  });
  const fenced = new Counter({
    name: "openclaw_router_fenced_total",
    help: "Outcomes that were not recorded because the shard had gone to another daemon.",
    registers,
  });
  // From the first scrape on, so that a rate over the first failure can be computed.
  for (const outcome of ["delivered", "answered", "ignored", "dropped", "dead"]) finished.inc({ outcome }, 0);
  showState(registry, sources);
  showBacklog(registry, sources);
  return {
    finished(outcome, { sinceAcceptedMs, sinceCommitMs }) {
      finished.inc({ outcome });
      if (outcome !== "delivered") return;
      sinceAccepted.observe(Math.max(0, sinceAcceptedMs) / 1_000);
      if (sinceCommitMs !== undefined) sinceCommit.observe(sinceCommitMs / 1_000);
    },
    fenced: () => fenced.inc(),
    deferred: (reason) => deferred.inc({ reason }),
    shardsLost: (count) => shardsLost.inc(count),
  };
}

function showState(registry: Registry, sources: RouterSources): void {
  const gauges: [name: string, help: string, read: () => number][] = [
    ["openclaw_router_lanes", "Lanes with undelivered updates in this daemon.", () => sources.laneDepth().lanes],
    ["openclaw_router_updates", "Undelivered updates in this daemon's memory.", () => sources.laneDepth().updates],
    ["openclaw_router_shards", "Shards that this daemon holds, of 64.", () => sources.shardsHeld()],
    [
      "openclaw_telegram_sends_per_second_limit",
      "The bot's ceiling over all daemons: TELEGRAM_SENDS_PER_SECOND.",
      () => sources.sendsPerSecond,
    ],
  ];
  for (const [name, help, read] of gauges) {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  }
}

/** The same in every daemon: add nothing up. While the database does not answer, they are not a number. */
function showBacklog(registry: Registry, sources: RouterSources): void {
  const read = remember(BACKLOG_MS, () => sources.readBacklog());
  const gauges: [name: string, help: string, pick: (backlog: Backlog) => number][] = [
    ["openclaw_inbox_open_updates", "Accepted updates that are not finished.", (backlog) => backlog.updates],
    ["openclaw_inbox_open_lanes", "Lanes that have any.", (backlog) => backlog.lanes],
    ["openclaw_inbox_deepest_lane_updates", "Open updates of the lane that has most.", (backlog) => backlog.deepest],
    [
      "openclaw_inbox_oldest_age_seconds",
      "Age of the oldest open update; 0 when there is none.",
      ({ oldestAcceptedAt }) =>
        oldestAcceptedAt === null ? 0 : Math.max(0, sources.now().getTime() - oldestAcceptedAt.getTime()) / 1_000,
    ],
    ["openclaw_dead_letters", "Updates given up, waiting for an operator.", (backlog) => backlog.deadLetters],
  ];
  for (const [name, help, pick] of gauges) {
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        const backlog = await read();
        this.set(backlog === undefined ? Number.NaN : pick(backlog));
      },
    });
  }
}
