import { writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Agent } from "undici";
import { startDaemon } from "../scripts/load/daemon-process.ts";
import {
  allTenantsActive,
  allUpdatesFinished,
  createTenants,
  daemonEnv,
  type Stage,
  WEBHOOK_SECRET,
  withStage,
} from "../scripts/load/stage.ts";
import { median, percentile, round } from "../scripts/load/figures.ts";
import { nowMicros, type Runtimes, startRuntimes } from "../scripts/load/runtimes.ts";
import { cpuMicros, peakMemoryBytes, startServer } from "./server-process.ts";
import { runWrk } from "./wrk.ts";

const CHATS = 1_000;
const FIRST_CHAT = 1_000_001;
const CHAT_IDS = Array.from({ length: CHATS }, (_, index) => FIRST_CHAT + index);
const IN_FLIGHT = 100;
/** Of the run that measures latency. */
const PER_SECOND = 500;
const IDS_PER_RUN = 10_000_000;

type Contestant = { name: string; url: string; pid: number };
type Run = { deliveredPerSecond: number; cpuMicrosPerUpdate: number };

export type DeliveryOptions = { rounds: number; seconds: number };

/**
 * From the webhook to the runtimes of a thousand chats: a whole daemon, with order and durability, against a server that
 * forwards and keeps nothing. Rates at full load until the last update has arrived; latencies at a steady rate.
 */
export async function benchDelivery(options: DeliveryOptions) {
  return withStage(async (stage) => {
    const runtimes = await startRuntimes(CHAT_IDS, { journal: path.join(stage.dataDir, "arrivals"), mostAnswerMs: 0 });
    const contestants = await startContestants(stage, runtimes);
    try {
      const runs = new Map<string, Run[]>(contestants.list.map(({ name }) => [name, []]));
      const latencies: Record<string, object> = {};
      let firstId = 0;
      // The first turn only warms them up: what counts is how they run for days.
      for (let turn = 0; turn <= options.rounds; turn += 1) {
        for (const contestant of contestants.list) {
          firstId += IDS_PER_RUN;
          const run = await measureRate(stage, contestant, runtimes, firstId, options.seconds);
          if (turn > 0) runs.get(contestant.name)?.push(run);
        }
      }
      // After the rates, so that both are warm.
      for (const contestant of contestants.list) {
        firstId += IDS_PER_RUN;
        latencies[contestant.name] = await measureLatency(contestant, runtimes, firstId, options.seconds);
      }
      const rates = (name: string) => (runs.get(name) ?? []).map((run) => run.deliveredPerSecond);
      const forwarded = rates("direct forward");
      return {
        bench: "delivery",
        ...options,
        load: "wrk",
        inFlight: IN_FLIGHT,
        chats: CHATS,
        results: [...runs].map(([name, list]) => ({
          run: name,
          deliveredPerSecond: Math.round(median(rates(name))),
          cpuMicrosPerUpdate: round(median(list.map((run) => run.cpuMicrosPerUpdate))),
        })),
        ofDirectForward: round(median(rates("openclaw").map((ours, turn) => ours / (forwarded[turn] ?? Number.NaN)))),
        latencyAtPerSecond: PER_SECOND,
        latencies,
        daemonPeakMemoryMiB: Math.round(peakMemoryBytes(contestants.daemonPid) / 2 ** 20),
      };
    } finally {
      await contestants.stop();
      await runtimes.stop();
    }
  });
}

async function startContestants(stage: Stage, runtimes: Runtimes) {
  const file = path.join(stage.dataDir, "addresses.json");
  await writeFile(file, JSON.stringify(CHAT_IDS.map((chat) => [chat, runtimes.address(chat)])));
  const direct = await startServer("direct-forward", [WEBHOOK_SECRET, file]);
  const daemon = await startDaemon({
    env: daemonEnv(stage),
    runtimesFile: await createTenants(stage, CHAT_IDS, runtimes.address),
    logFile: path.join(stage.dataDir, "daemon.log"),
  });
  await allTenantsActive(stage);
  return {
    list: [
      { name: "direct forward", url: direct.url, pid: direct.pid },
      { name: "openclaw", url: daemon.url, pid: daemon.pid },
    ] satisfies Contestant[],
    daemonPid: daemon.pid,
    async stop() {
      await Promise.all([direct.stop(), daemon.stop()]);
    },
  };
}

async function measureRate(
  stage: Stage,
  { name, url, pid }: Contestant,
  runtimes: Runtimes,
  firstId: number,
  seconds: number,
): Promise<Run> {
  runtimes.forget();
  const cpuBefore = cpuMicros(pid);
  const { requests, failed } = await runWrk({
    url: `${url}/webhooks/telegram`,
    connections: IN_FLIGHT,
    seconds,
    script: path.join(import.meta.dirname, "updates.lua"),
    args: [WEBHOOK_SECRET, firstId, CHATS],
  });
  if (failed > 0) throw new Error(`${name} refused ${failed} updates`);
  await allUpdatesFinished(stage);
  const arrivals = runtimes.arrivals();
  const [first, last] = [arrivals[0], arrivals.at(-1)];
  // What wrk leaves unanswered at its end may arrive or not.
  if (first === undefined || last === undefined || arrivals.length < requests)
    throw new Error(`${name} delivered ${arrivals.length} of ${requests} updates`);
  return {
    deliveredPerSecond: arrivals.length / ((last.atMicros - first.atMicros) / 1e6),
    cpuMicrosPerUpdate: (cpuMicros(pid) - cpuBefore) / arrivals.length,
  };
}

/** Sends at a steady rate, whatever the answers take. */
async function measureLatency({ url }: Contestant, runtimes: Runtimes, firstId: number, seconds: number) {
  const agent = new Agent({ connections: 100 });
  const sent = new Map<number, number>();
  const answered = new Map<number, number>();

  async function send(updateId: number): Promise<void> {
    const chat = FIRST_CHAT + (updateId % CHATS);
    const person = { id: chat, is_bot: false, first_name: "Load" };
    const message = { message_id: updateId, from: person, chat: { id: chat, type: "private" }, date: 1_800_000_000 };
    sent.set(updateId, nowMicros());
    const response = await agent.request({
      origin: url,
      path: "/webhooks/telegram",
      method: "POST",
      headers: { "content-type": "application/json", "x-telegram-bot-api-secret-token": WEBHOOK_SECRET },
      body: JSON.stringify({ update_id: updateId, message: { ...message, text: `This is update ${updateId}` } }),
    });
    answered.set(updateId, nowMicros());
    await response.body.dump();
  }

  runtimes.forget();
  const total = PER_SECOND * seconds;
  const sending: Promise<void>[] = [];
  const begun = performance.now();
  while (sending.length < total) {
    const due = Math.min(total, Math.ceil(((performance.now() - begun) / 1_000) * PER_SECOND));
    while (sending.length < due) sending.push(send(firstId + sending.length));
    await delay(1);
  }
  await Promise.all(sending);
  while (runtimes.arrivals().length < total) await delay(50);
  await agent.close();
  // The first second opens connections.
  const settled = runtimes.arrivals().filter(({ updateId }) => updateId - firstId >= PER_SECOND);
  const since = (moments: ReadonlyMap<number, number>) => {
    // Below zero when the runtime has it before the sender has read its answer.
    const list = settled.map(
      ({ updateId, atMicros }) => Math.max(0, atMicros - (moments.get(updateId) ?? Number.NaN)) / 1_000,
    );
    return { p50Ms: round(percentile(list, 0.5)), p99Ms: round(percentile(list, 0.99)) };
  };
  return { sentToDelivered: since(sent), answeredToDelivered: since(answered) };
}
