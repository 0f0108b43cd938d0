import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { provisionTenant } from "../../src/core/orchestrator/orchestrator.ts";
import { systemClock } from "../../src/core/platform/clock.ts";
import { createDb, createPool } from "../../src/core/platform/db.ts";
import { startEmbeddedPostgres, stopEmbeddedPostgres } from "../../src/core/platform/embedded-postgres.ts";
import { migrate } from "../../src/core/platform/migrations.ts";
import { packageRoot } from "../../src/core/platform/package-root.ts";
import { createTenant } from "../../src/core/tenants/tenants.ts";

/** A PostgreSQL of its own, migrated and durable: what a 200 promises must survive. */
export type Stage = {
  dataDir: string;
  url: string;
  pool: pg.Pool;
  /** Ends the server with SIGKILL. */
  killPostgres(): Promise<void>;
  startPostgres(): Promise<void>;
};

export const BOT_TOKEN = "4242:load-bot-token";
export const WEBHOOK_SECRET = "load-webhook-secret";

/** Calls `work` with a stage and leaves nothing of it behind. */
export async function withStage<Result>(work: (stage: Stage) => Promise<Result>): Promise<Result> {
  const dataDir = await mkdtemp(path.join(tmpdir(), "openclaw-load-"));
  // PostgreSQL started by root runs as somebody else.
  await chmod(dataDir, 0o711);
  try {
    const { url } = await startEmbeddedPostgres({ dataDir });
    // Connections break when the server is killed on purpose; queries that matter are tried again.
    const pool = createPool({ url, max: 4, applicationName: "openclaw-load", onIdleError: () => undefined });
    try {
      await migrate(pool, path.join(packageRoot(), "migrations"));
      return await work({
        dataDir,
        url,
        pool,
        async killPostgres() {
          const [pid] = (await readFile(path.join(dataDir, "postgres", "data", "postmaster.pid"), "utf8")).split("\n");
          process.kill(Number(pid), "SIGKILL");
        },
        async startPostgres() {
          await startEmbeddedPostgres({ dataDir });
        },
      });
    } finally {
      await pool.end();
    }
  } finally {
    await stopEmbeddedPostgres({ dataDir });
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** The environment of a daemon on the stage; its accounts lead nowhere. */
export function daemonEnv({ dataDir, url }: Stage, extra: Record<string, string> = {}): Record<string, string> {
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
    ...extra,
  };
}

/** A tenant for each chat, on its way up. @returns the file that maps tenants to runtimes. */
export async function createTenants(
  { dataDir, pool }: Stage,
  chats: readonly number[],
  addressOf: (chat: number) => string,
): Promise<string> {
  const ctx = { db: createDb(pool), clock: systemClock, actor: { name: "load" } };
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

/** All tenants are active, and nothing is left to be done about it. */
export async function allTenantsActive({ pool }: Stage): Promise<void> {
  const open = "SELECT FROM tenants WHERE status <> 'active' UNION ALL SELECT FROM graphile_worker.jobs";
  await until(async () => (await count(pool, open)) === 0, 120_000, "all tenants are active");
}

export async function allUpdatesFinished(stage: Stage): Promise<void> {
  await until(
    async () => (await count(stage.pool, "SELECT FROM telegram_updates WHERE finished_at IS NULL")) === 0,
    180_000,
    "all updates are finished",
  );
}

export async function count(pool: pg.Pool, select: string): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(`SELECT count(*)::integer FROM (${select}) AS found`);
  return rows[0]?.count ?? 0;
}

async function until(condition: () => Promise<boolean>, timeoutMs: number, what: string): Promise<void> {
  for (const deadline = performance.now() + timeoutMs; !(await isTrue(condition)); await delay(100)) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain until ${what}`);
  }
}

/** What can't be asked, because the database is away, is asked again. */
async function isTrue(condition: () => Promise<boolean>): Promise<boolean> {
  return condition().catch(() => false);
}
