import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Actor } from "../platform/audit.ts";
import { createBotApi } from "../adapters/telegram/bot-api.ts";
import { createFileVault } from "../adapters/vault/file-vault.ts";
import { tenantSecretName } from "../adapters/vault/vault.ts";
import { fixedClock } from "../platform/clock.ts";
import { heartbeat } from "../platform/daemons.ts";
import { createPool } from "../platform/db.ts";
import type { DaemonId, TenantId } from "../platform/ids.ts";
import { createLog } from "../platform/log.ts";
import { createTestDatabase } from "../testing/database.ts";
import { createRecording, readBody, startLoopback } from "../testing/fakes/loopback.ts";
import { startTelegramServer } from "../testing/fakes/telegram-server.ts";
import { createTenant } from "../tenants/tenants.ts";
import { createAcceptor, type Router, startRouter } from "./router.ts";

export const BOT_ID = 4242;
const BOT_TOKEN = `${BOT_ID}:real-bot-token`;
const WAIT_MS = 15_000;

/** An update that reached a runtime. */
export type Arrival = { updateId: number; secret: string | undefined; body: Buffer };

type Answer = (arrival: Arrival, response: ServerResponse) => void | Promise<void>;

export const accept: Answer = (_arrival, response) =>
  void response.writeHead(200, { "x-openclaw-delivery-accepted": "durable" }).end();
export const answerWith =
  (status: number): Answer =>
  (_arrival, response) =>
    void response.writeHead(status).end();

/** A runtime's webhook on loopback; `answer` may be changed at any time. */
export async function startRuntime(t: TestContext) {
  const recording = createRecording<Arrival>();
  const state = { answer: accept };
  const server = await startLoopback(async (request, response) => {
    const body = await readBody(request);
    const secret = request.headers["x-telegram-bot-api-secret-token"];
    const arrival = { updateId: JSON.parse(body.toString()).update_id, secret: String(secret), body };
    recording.add(arrival);
    await state.answer(arrival, response);
  });
  t.after(() => server.close());
  return { ...recording, state, url: server.url, ids: () => recording.entries.map((arrival) => arrival.updateId) };
}

/** A database, a Bot API and a vault, and as many daemons' acceptors and routers on them as a test wants. */
export async function setUp(t: TestContext) {
  const database = await createTestDatabase();
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-router-"));
  const clock = fixedClock(new Date("2026-11-20T10:00:00Z"));
  const lines: string[] = [];
  const log = createLog("debug", { write: (line) => void lines.push(line) });
  const actor: Actor = { name: "test" };
  const vault = createFileVault({ folder, key: undefined });
  const botApi = createBotApi({ apiRoot: telegram.url, token: BOT_TOKEN });
  const ctx = { db: database.db, pool: database.pool, leasePool: database.pool, clock, log, actor, vault, botApi };
  const routers: Router[] = [];
  t.after(async () => {
    for (const router of routers) await router.stop();
    await botApi.close();
    await telegram.close();
    await database[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  /** A router of a daemon of its own, with its own connections. */
  async function route(options: { rateLimitPerMinute?: number } = {}) {
    const daemonId = randomUUID() as DaemonId;
    const pool = createPool({ url: database.url, max: 8, applicationName: "test", onIdleError: () => undefined });
    t.after(() => pool.end());
    await beat(daemonId);
    const router = await startRouter({
      ...ctx,
      pool,
      daemonId,
      signupUrl: "https://example.com/signup",
      payLinks: async () => "https://example.com/signup",
      redis: undefined,
      rateLimitPerMinute: options.rateLimitPerMinute ?? 0,
    });
    routers.push(router);
    return { router, daemonId, acceptor: createAcceptor({ ...ctx, pool, botId: BOT_ID }, router.lanes) };
  }

  async function beat(id: DaemonId): Promise<void> {
    const self = {
      id,
      roles: ["worker"],
      version: "test",
      build: "test",
      host: "test",
      pid: process.pid,
      workerIds: [],
      gatewayUrl: undefined,
    };
    await heartbeat(database.pool, self);
  }

  /** A tenant linked to `chat`, whose runtime is at `address`. */
  async function addTenant(chat: number, address: string | null, change: { status?: string } = {}): Promise<TenantId> {
    const { tenant } = await createTenant(ctx, {
      slug: `chat-${chat}`,
      displayName: `Chat ${chat}`,
      email: `${chat}@example.com`,
      telegramChatId: chat,
      telegramUserId: chat,
      billingExempt: true,
    });
    await database.pool.query("UPDATE tenants SET status = $2 WHERE id = $1", [tenant.id, change.status ?? "active"]);
    await database.db
      .insertInto("runtimes")
      .values({
        tenantId: tenant.id,
        driver: "memory",
        state: "running",
        address,
        image: "test",
        specHash: "test",
        allowedUserId: chat,
        healthyAt: new Date(clock.now().getTime() - 3_600_000),
        observedAt: clock.now(),
      })
      .execute();
    await vault.set(tenantSecretName(tenant.id, "webhook-secret", 1), `secret-of-${chat}`);
    return tenant.id;
  }

  async function outcomes(): Promise<Record<number, string | null>> {
    const { rows } = await database.pool.query("SELECT update_id, outcome FROM telegram_updates ORDER BY seq");
    return Object.fromEntries(rows.map((row) => [row.update_id, row.outcome]));
  }

  async function untilOutcome(updateId: number, outcome: string): Promise<void> {
    await until(async () => (await outcomes())[updateId] === outcome, `update ${updateId} is ${outcome}`);
  }

  return { ...ctx, url: database.url, telegram, lines, route, beat, addTenant, outcomes, untilOutcome };
}

export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const deadline = performance.now() + WAIT_MS; !(await condition()); await delay(10)) {
    if (performance.now() > deadline) throw new Error(`it does not come about that ${what}`);
  }
}

/** A message in a private chat, as Telegram sends it; `fields` are the message's. */
export function message(updateId: number, chat: number, fields: Record<string, unknown> = {}): Buffer {
  const from = { id: chat, is_bot: false, first_name: "Ann" };
  const whole = { message_id: updateId, date: 1_763_632_800, chat: { id: chat, type: "private" }, from, text: "hello" };
  return Buffer.from(JSON.stringify({ update_id: updateId, message: { ...whole, ...fields } }));
}

export function buttonTap(updateId: number, chat: number): Buffer {
  const from = { id: chat, is_bot: false, first_name: "Ann" };
  const tapped = { message_id: 1, date: 1_763_632_800, chat: { id: chat, type: "private" } };
  const query = { id: `query-${updateId}`, from, message: tapped, chat_instance: "1", data: "yes" };
  return Buffer.from(JSON.stringify({ update_id: updateId, callback_query: query }));
}
