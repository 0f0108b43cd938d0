import { randomInt } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import type pg from "pg";
import { percentile } from "../load/figures.ts";
import { createFileVault } from "../../src/core/adapters/vault/file-vault.ts";
import { startRuntimes, type Arrival, nowMicros } from "../load/runtimes.ts";
import {
  allTenantsActive,
  allUpdatesFinished,
  BOT_TOKEN,
  createTenants,
  daemonEnv,
  type Stage,
  WEBHOOK_SECRET,
  withStage,
} from "../load/stage.ts";
import { LEASE_MS } from "../../src/core/router/shard-leases.ts";
import { startRedis } from "../redis-server.ts";
import { sendAll, WORDS } from "./sender.ts";
import { judge, type Outage, type Verdict } from "./verdict.ts";
import { killAndRestart, superviseDaemons, type VictimName } from "./victims.ts";

export type RouterChaosOptions = {
  updates: number;
  chats: number;
  /** How often something is killed, one after the other or while the last is still coming back. */
  rounds: number;
  daemons: number;
  victims: readonly VictimName[];
};

export type RouterChaosResult = Verdict & {
  passed: boolean;
  sent: number;
  /** What daemons said last that ended by themselves. */
  crashes: readonly string[];
  /** Lines of logs and metrics that hold a credential, or words of a message. */
  leaks: number;
  kills: Record<string, number>;
  /** From the first update sent to the last one delivered. */
  durationMs: number;
  /** How long chats were without any delivery around a kill. */
  silence: { p50Ms: number; mostMs: number };
  outcomes: Record<string, number>;
};

type Kill = Outage & { name: VictimName };

/**
 * Sends updates as Telegram does, kills what the router stands on at random moments, and compares what was sent with what
 * the runtimes kept.
 */
export function runRouterChaos(options: RouterChaosOptions): Promise<RouterChaosResult> {
  return withStage((stage) => attack(options, stage));
}

async function attack(options: RouterChaosOptions, stage: Stage): Promise<RouterChaosResult> {
  const chats = Array.from({ length: options.chats }, (_, index) => 1_000_001 + index);
  const redis = await startRedis();
  if (redis === undefined) throw new Error("there is no redis-server on PATH; on Debian: apt-get install redis-server");
  const runtimes = await startRuntimes(chats, { journal: path.join(stage.dataDir, "arrivals"), mostAnswerMs: 20 });
  const logFile = path.join(stage.dataDir, "daemons.log");
  const daemons = await superviseDaemons(options.daemons, {
    // Limits that are counted and never reached.
    env: daemonEnv(stage, { REDIS_URL: redis.url, ROUTER_RATE_LIMIT_PER_MINUTE: "100000" }),
    runtimesFile: await createTenants(stage, chats, runtimes.address),
    logFile,
  });
  try {
    await allTenantsActive(stage);
    const begun = nowMicros();
    const { kills, sent } = await sendAndKill(options, chats, daemons.urls, (name) =>
      killAndRestart(name, { stage, daemons, runtimes, redis }),
    );
    await allUpdatesFinished(stage);
    const arrivals = runtimes.arrivals();
    const verdict = judge(sent, arrivals, kills);
    const silences = kills.flatMap((kill) => silencesAround(arrivals, kill.fromMicros));
    const leaks = await countLeaks(stage, logFile, await daemons.readMetrics());
    const isRight = verdict.lost === 0 && verdict.chatsOutOfOrder === 0 && verdict.duplicatesUnexplained === 0;
    return {
      passed: isRight && daemons.crashes.length === 0 && leaks === 0,
      sent: options.updates,
      crashes: daemons.crashes,
      leaks,
      ...verdict,
      kills: Object.fromEntries(
        options.victims.map((name) => [name, kills.filter((kill) => kill.name === name).length]),
      ),
      durationMs: Math.round(((arrivals.at(-1)?.atMicros ?? begun) - begun) / 1_000),
      silence: {
        p50Ms: silences.length === 0 ? 0 : Math.round(percentile(silences, 0.5) / 1_000),
        mostMs: Math.round(Math.max(0, ...silences) / 1_000),
      },
      outcomes: await countOutcomes(stage.pool),
    };
  } finally {
    await daemons.stop();
    await runtimes.stop();
    await redis.stop();
  }
}

/** Sends everything while something is killed every now and then: at random counts of accepted updates. */
async function sendAndKill(
  { updates, rounds, victims }: RouterChaosOptions,
  chats: readonly number[],
  urls: () => readonly string[],
  kill: (name: VictimName) => Promise<void>,
) {
  const kills: Kill[] = [];
  const moments = Array.from({ length: rounds }, () =>
    randomInt(Math.ceil(updates / 20), Math.ceil((updates * 19) / 20)),
  ).toSorted((a, b) => a - b);
  // One at a time for each kind: what is not back yet can't be killed again.
  const last = new Map<VictimName, Promise<void>>();
  const strike = async (name: VictimName, before: Promise<void> | undefined) => {
    await before;
    const outage = { name, fromMicros: nowMicros(), toMicros: Number.POSITIVE_INFINITY };
    kills.push(outage);
    await kill(name);
    outage.toMicros = nowMicros() + LEASE_MS * 1_000;
  };
  const sent = await sendAll({
    chats,
    updates,
    secret: WEBHOOK_SECRET,
    urls,
    onAccepted(accepted) {
      while (moments[0] !== undefined && moments[0] <= accepted) {
        moments.shift();
        const name = victims[randomInt(victims.length)];
        if (name === undefined) return;
        last.set(name, strike(name, last.get(name)));
      }
    },
  });
  await Promise.all(last.values());
  return { sent, kills };
}

/** For each chat, between the last arrival before the kill and the first after it. */
function silencesAround(arrivals: readonly Arrival[], killedAt: number): number[] {
  return [...Map.groupBy(arrivals, (arrival) => arrival.chat).values()].flatMap((ofChat) => {
    const next = ofChat.findIndex((arrival) => arrival.atMicros > killedAt);
    const [before, after] = [ofChat[next - 1], ofChat[next]];
    return before === undefined || after === undefined ? [] : after.atMicros - before.atMicros;
  });
}

/** What must stand in no log and no metric: the service's credentials, the tenants', and what people write (F90, F91). */
async function countLeaks({ dataDir }: Stage, logFile: string, metrics: string): Promise<number> {
  const vault = createFileVault({ folder: path.join(dataDir, "vault"), key: undefined });
  const secrets = await Promise.all((await vault.list("")).map((name) => vault.get(name)));
  const forbidden = [BOT_TOKEN, WEBHOOK_SECRET, WORDS, ...secrets.filter((secret) => secret !== undefined)];
  const lines = `${await readFile(logFile, "utf8")}\n${metrics}`.split("\n");
  return lines.filter((line) => forbidden.some((text) => line.includes(text))).length;
}

async function countOutcomes(pool: pg.Pool): Promise<Record<string, number>> {
  const { rows } = await pool.query<{ outcome: string; count: number }>(
    "SELECT outcome, count(*)::integer FROM telegram_updates GROUP BY outcome",
  );
  return Object.fromEntries(rows.map((row) => [row.outcome, row.count]));
}
