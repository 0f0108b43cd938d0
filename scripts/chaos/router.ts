import { randomInt } from "node:crypto";
import { mkdtemp, rm, writeFile, chmod } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { createDb, createPool } from "../../src/core/platform/db.ts";
import { startEmbeddedPostgres, stopEmbeddedPostgres } from "../../src/core/platform/embedded-postgres.ts";
import { migrate } from "../../src/core/platform/migrations.ts";
import { packageRoot } from "../../src/core/platform/package-root.ts";
import { systemClock } from "../../src/core/platform/clock.ts";
import { provisionTenant } from "../../src/core/orchestrator/orchestrator.ts";
import { createTenant } from "../../src/core/tenants/tenants.ts";
import { type DaemonProcess, startDaemon } from "./daemon-process.ts";
import { type Arrival, startRuntimes } from "./runtimes.ts";
import { sendAll } from "./sender.ts";
import { judge, type Verdict } from "./verdict.ts";

export type RouterChaosOptions = { updates: number; chats: number; kills: number; daemons: number };

export type RouterChaosResult = Verdict & {
  passed: boolean;
  sent: number;
  kills: number;
  /** From the first update sent to the last one delivered. */
  durationMs: number;
  /** For each kill: until the first delivery after it, and the longest that a chat was without any delivery around it. */
  handovers: { firstDeliveryMs: number; longestSilenceMs: number }[];
  outcomes: Record<string, number>;
};

const TENANTS_DEADLINE_MS = 60_000;
const DELIVERY_DEADLINE_MS = 120_000;
const BOT_TOKEN = "4242:chaos-bot-token";
const WEBHOOK_SECRET = "chaos-webhook-secret";

/**
 * Sends updates as Telegram does, kills daemons while they arrive, and compares what was sent with what the runtimes got.
 * PostgreSQL is durable here: what a 200 promises must survive.
 */
export async function runRouterChaos(options: RouterChaosOptions): Promise<RouterChaosResult> {
  const dataDir = await mkdtemp(path.join(tmpdir(), "openclaw-chaos-"));
  // PostgreSQL started by root runs as somebody else.
  await chmod(dataDir, 0o711);
  try {
    const { url } = await startEmbeddedPostgres({ dataDir });
    return await withPool(url, (pool) => attack(options, { dataDir, url, pool }));
  } finally {
    await stopEmbeddedPostgres({ dataDir });
    await rm(dataDir, { recursive: true, force: true });
  }
}

type Stage = { dataDir: string; url: string; pool: pg.Pool };

async function attack(options: RouterChaosOptions, stage: Stage): Promise<RouterChaosResult> {
  const chats = Array.from({ length: options.chats }, (_, index) => 1_000_001 + index);
  const runtimes = await startRuntimes(chats);
  const daemons: DaemonProcess[] = [];
  try {
    const runtimesFile = await createTenants(stage, chats, runtimes.address);
    const logFile = path.join(stage.dataDir, "daemons.log");
    const start = async () => {
      daemons.push(await startDaemon({ env: daemonEnv(stage), runtimesFile, logFile }));
    };
    for (let count = 0; count < options.daemons; count += 1) await start();
    await until(
      async () => (await count(stage.pool, "SELECT FROM tenants WHERE status <> 'active'")) === 0,
      TENANTS_DEADLINE_MS,
    );

    const begunAt = performance.now();
    const killedAt: number[] = [];
    const killAfter = Array.from({ length: options.kills }, () =>
      randomInt(Math.ceil(options.updates / 10), Math.ceil((options.updates * 9) / 10)),
    ).toSorted((a, b) => a - b);
    const killing = new Set<Promise<void>>();
    const sent = await sendAll({
      chats,
      updates: options.updates,
      secret: WEBHOOK_SECRET,
      urls: () => daemons.map((daemon) => daemon.url),
      onAccepted(accepted) {
        while (killAfter[0] !== undefined && killAfter[0] <= accepted) {
          killAfter.shift();
          killing.add(killOne());
        }
      },
    });
    await Promise.all(killing);
    await until(
      async () => (await count(stage.pool, "SELECT FROM telegram_updates WHERE finished_at IS NULL")) === 0,
      DELIVERY_DEADLINE_MS,
    );
    const lastAt = runtimes.arrivals.at(-1)?.at ?? begunAt;
    const verdict = judge(sent, runtimes.arrivals, killedAt);
    return {
      passed: verdict.lost === 0 && verdict.chatsOutOfOrder === 0 && verdict.duplicatesUnexplained === 0,
      sent: options.updates,
      kills: killedAt.length,
      ...verdict,
      durationMs: Math.round(lastAt - begunAt),
      handovers: killedAt.map((moment) => describeHandover(runtimes.arrivals, moment)),
      outcomes: await countOutcomes(stage.pool),
    };

    /** The last daemon is started again, as a supervisor would; the others' work is for those that remain. */
    async function killOne(): Promise<void> {
      const victim = daemons.shift();
      if (victim === undefined) return;
      await victim.kill();
      killedAt.push(performance.now());
      if (daemons.length === 0) await start();
    }
  } finally {
    for (const daemon of daemons) await daemon.stop();
    runtimes.close();
  }
}

function daemonEnv({ dataDir, url }: Stage): Record<string, string> {
  return {
    DATABASE_URL: url,
    OPENCLAW_DATA_DIR: dataDir,
    OPENCLAW_PUBLIC_LISTEN: "127.0.0.1:0",
    OPENCLAW_INTERNAL_LISTEN: "127.0.0.1:0",
    // Part of the runtimes' specification, so it must outlive a daemon.
    OPENCLAW_INTERNAL_URL: "http://127.0.0.1:9090",
    TELEGRAM_API_ROOT: "http://127.0.0.1:9",
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
    TELEGRAM_WEBHOOK_SECRET: WEBHOOK_SECRET,
    ROUTER_RATE_LIMIT_PER_MINUTE: "0",
  };
}

/** A tenant for each chat, on its way up. @returns the file that maps tenants to runtimes. */
async function createTenants(
  { dataDir, pool }: Stage,
  chats: readonly number[],
  addressOf: (chat: number) => string,
): Promise<string> {
  await migrate(pool, path.join(packageRoot(), "migrations"));
  const ctx = { db: createDb(pool), clock: systemClock, actor: { name: "chaos" } };
  const addresses: Record<string, string> = {};
  for (const chat of chats) {
    const { tenant } = await createTenant(ctx, {
      slug: `chat-${chat}`,
      displayName: `Chat ${chat}`,
      email: `${chat}@example.com`,
      telegramChatId: chat,
      telegramUserId: chat,
      billingExempt: true,
    });
    await provisionTenant(ctx, tenant.id, "load test");
    addresses[tenant.id] = addressOf(chat);
  }
  const file = path.join(dataDir, "runtimes.json");
  await writeFile(file, JSON.stringify(addresses));
  return file;
}

function describeHandover(arrivals: readonly Arrival[], killedAt: number) {
  const first = arrivals.find((arrival) => arrival.at > killedAt);
  const chats = [...Map.groupBy(arrivals, (arrival) => arrival.chat).values()];
  const silences = chats.map((ofChat) => {
    const next = ofChat.findIndex((arrival) => arrival.at > killedAt);
    const [before, after] = [ofChat[next - 1], ofChat[next]];
    return before === undefined || after === undefined ? 0 : after.at - before.at;
  });
  return {
    firstDeliveryMs: Math.round((first?.at ?? killedAt) - killedAt),
    longestSilenceMs: Math.round(Math.max(0, ...silences)),
  };
}

async function countOutcomes(pool: pg.Pool): Promise<Record<string, number>> {
  const { rows } = await pool.query<{ outcome: string; count: number }>(
    "SELECT outcome, count(*)::integer FROM telegram_updates GROUP BY outcome",
  );
  return Object.fromEntries(rows.map((row) => [row.outcome, row.count]));
}

async function count(pool: pg.Pool, select: string): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(`SELECT count(*)::integer FROM (${select}) AS found`);
  return rows[0]?.count ?? 0;
}

async function until(condition: () => Promise<boolean>, timeoutMs: number): Promise<void> {
  for (const deadline = performance.now() + timeoutMs; !(await condition()); await delay(100)) {
    if (performance.now() > deadline) throw new Error(`what was waited for did not come about in ${timeoutMs} ms`);
  }
}

async function withPool<Result>(url: string, work: (pool: pg.Pool) => Promise<Result>): Promise<Result> {
  const onIdleError = (error: Error) => console.error(error);
  const pool = createPool({ url, max: 4, applicationName: "openclaw-chaos", onIdleError });
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}
