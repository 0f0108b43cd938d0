import path from "node:path";
import { startDaemon } from "../scripts/load/daemon-process.ts";
import { daemonEnv, type Stage, WEBHOOK_SECRET, withStage } from "../scripts/load/stage.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import { pruneInbox } from "../src/core/router/router.ts";
import { median, round } from "../scripts/load/figures.ts";
import { cpuMicros, startServer } from "./server-process.ts";
import { runWrk, type WrkResult } from "./wrk.ts";

/** 100 is the most that Telegram opens. */
const IN_FLIGHT = [64, 100, 256];
const CHATS = 1_000;
/** Far enough apart that no run meets the ids of another. */
const IDS_PER_RUN = 10_000_000;

type Contestant = { name: string; url: string; pid: number };
type Run = WrkResult & { cpuMicrosPerRequest: number };

export type AcceptanceOptions = { rounds: number; seconds: number; keptRows: number };

/**
 * Durable acceptance, the answer 200 after the commit, against its peers in interleaved runs; with `keptRows` finished
 * updates in the table and their pruning at work.
 */
export async function benchAcceptance(options: AcceptanceOptions) {
  return withStage(async (stage) => {
    const contestants = await startContestants(stage);
    const runs = new Map<string, Run[]>();
    let firstId = 0;
    try {
      if (options.keptRows > 0) await fill(stage, options.keptRows);
      for (let round = 0; round < options.rounds; round += 1) {
        for (const connections of IN_FLIGHT) {
          for (const { name, url, pid } of contestants.list) {
            firstId += IDS_PER_RUN;
            const before = cpuMicros(pid);
            const pruning = name === "openclaw" && options.keptRows > 0 ? keepPruning(stage) : undefined;
            const result = await runWrk({
              url: `${url}/webhooks/telegram`,
              connections,
              seconds: options.seconds,
              script: path.join(import.meta.dirname, "updates.lua"),
              args: [WEBHOOK_SECRET, firstId, CHATS],
            });
            await pruning?.stop();
            if (result.failed > 0) throw new Error(`${name} refused ${result.failed} updates`);
            const run = { ...result, cpuMicrosPerRequest: (cpuMicros(pid) - before) / result.requests };
            runs.set(`${name} ${connections}`, [...(runs.get(`${name} ${connections}`) ?? []), run]);
            await forgetAccepted(stage, options.keptRows);
          }
        }
      }
    } finally {
      await contestants.stop();
    }
    return summarise(runs, options);
  });
}

async function startContestants(stage: Stage) {
  const bare = await startServer("bare-http", [WEBHOOK_SECRET]);
  const single = await startServer("insert-per-request", [WEBHOOK_SECRET, stage.url]);
  const daemon = await startDaemon({
    env: daemonEnv(stage),
    roles: "web",
    logFile: path.join(stage.dataDir, "daemon.log"),
  });
  return {
    list: [
      { name: "bare node:http", url: bare.url, pid: bare.pid },
      { name: "insert per request", url: single.url, pid: single.pid },
      { name: "openclaw", url: daemon.url, pid: daemon.pid },
    ] satisfies Contestant[],
    async stop() {
      await Promise.all([bare.stop(), single.stop(), daemon.stop()]);
    },
  };
}

function summarise(runs: ReadonlyMap<string, readonly Run[]>, options: AcceptanceOptions) {
  const of = (name: string, connections: number, figure: keyof Run) =>
    (runs.get(`${name} ${connections}`) ?? []).map((run) => run[figure]);
  const ratio = (connections: number, peer: string) =>
    round(
      median(
        of("openclaw", connections, "perSecond").map(
          (ours, index) => ours / (of(peer, connections, "perSecond")[index] ?? Number.NaN),
        ),
      ),
    );
  return {
    bench: "acceptance",
    ...options,
    load: "wrk",
    results: [...runs].map(([key, list]) => ({
      run: key,
      perSecond: Math.round(median(list.map((run) => run.perSecond))),
      p50Ms: round(median(list.map((run) => run.p50Ms))),
      p99Ms: round(median(list.map((run) => run.p99Ms))),
      cpuMicrosPerRequest: round(median(list.map((run) => run.cpuMicrosPerRequest))),
    })),
    ratios: IN_FLIGHT.map((connections) => ({
      inFlight: connections,
      ofBareHttp: ratio(connections, "bare node:http"),
      ofInsertPerRequest: ratio(connections, "insert per request"),
    })),
  };
}

async function fill(stage: Stage, rows: number): Promise<void> {
  const body = Buffer.alloc(250, "x");
  await stage.pool.query(
    `INSERT INTO telegram_updates (bot_id, update_id, lane, shard, body, accepted_at, outcome, finished_at)
     SELECT 2, id, 1000001 + id % $2, id % 64, $3, now() - interval '3 days' + id * interval '50 ms', 'delivered',
       now() - interval '3 days' + id * interval '50 ms'
     FROM generate_series(1, $1::integer) AS id`,
    [rows, CHATS, body],
  );
  await stage.pool.query("VACUUM ANALYZE telegram_updates");
}

/** What the run added: each begins on the same table. */
async function forgetAccepted(stage: Stage, keptRows: number): Promise<void> {
  if (keptRows === 0) await stage.pool.query("TRUNCATE telegram_updates");
  else await stage.pool.query("DELETE FROM telegram_updates WHERE bot_id <> 2");
}

/** As a worker does, without its pauses between sweeps. */
function keepPruning(stage: Stage) {
  const stopping = new AbortController();
  async function prune(): Promise<void> {
    while (!stopping.signal.aborted) await pruneInbox({ pool: stage.pool, clock: systemClock }, stopping.signal);
  }
  const pruning = prune();
  return {
    async stop() {
      stopping.abort();
      await pruning;
    },
  };
}
