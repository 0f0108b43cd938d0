import assert from "node:assert/strict";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { request as forward } from "undici";
import { createLocalDriver } from "../src/core/adapters/runtime/local/local-driver.ts";
import { createFileVault } from "../src/core/adapters/vault/file-vault.ts";
import { TENANT_SECRETS, type TenantSecret, tenantSecretName } from "../src/core/adapters/vault/vault.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { createLog } from "../src/core/platform/log.ts";
import { findTenantById } from "../src/core/tenants/tenants.ts";
import { createTestDatabase } from "../src/core/testing/database.ts";
import { readBody, startLoopback } from "../src/core/testing/fakes/loopback.ts";
import { startModelServer } from "../src/core/testing/fakes/model-server.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { documentOf, expectCode, openFolder } from "./command.ts";
import { call, type Daemon, startDaemon } from "./daemon-process.ts";

const BOT_TOKEN = "4242:loopback-bot-token";
const WEBHOOK_SECRET = "webhook-secret";
const WAIT_MS = 60_000;

/** What a runtime asked of the internal listener, and what it was told. */
type GatewayCall = { kind: "telegram" | "model"; credential: string; status: number };

/**
 * A bot, a model, a database and a data folder for daemons of a test, and a gate in front of their internal listener: runtimes know
 * its address, whichever daemon is there, and it sees every call of theirs.
 */
export async function openKeyStage(t: TestContext) {
  const database = await createTestDatabase();
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  const model = await startModelServer({ apiKey: "operator" });
  const gate = await startGate();
  const tenants = new Set<TenantId>();
  const dataDir = await makeFolder();
  const vault = createFileVault({ folder: path.join(dataDir, "vault"), key: undefined });
  const env = {
    DATABASE_URL: database.url,
    OPENCLAW_DATA_DIR: dataDir,
    OPENCLAW_PUBLIC_LISTEN: "127.0.0.1:0",
    OPENCLAW_INTERNAL_LISTEN: "127.0.0.1:0",
    OPENCLAW_INTERNAL_URL: gate.url,
    ROUTER_RATE_LIMIT_PER_MINUTE: "0",
    TELEGRAM_API_ROOT: telegram.url,
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
    TELEGRAM_WEBHOOK_SECRET: WEBHOOK_SECRET,
    ANTHROPIC_API_KEY: "operator",
    ANTHROPIC_BASE_URL: model.url,
  };
  const openclaw = await openFolder(t, env);

  const daemons: Daemon[] = [];

  /** A daemon of its own process, that takes over at once what the one before was at. */
  async function start(): Promise<Daemon> {
    await database.pool.query("UPDATE daemons SET seen_at = now() - interval '1 minute'");
    await database.pool.query("UPDATE router_shards SET expires_at = now() WHERE owner IS NOT NULL");
    const daemon = await startDaemon(t, env);
    daemons.push(daemon);
    gate.state.target = daemon.internalUrl;
    await daemon.saw("working");
    return daemon;
  }

  /** Runtimes outlive daemons: they are removed when those have ended, while the records of what runs are there. */
  async function close(): Promise<void> {
    for (const daemon of daemons) {
      daemon.child.kill("SIGKILL");
      await daemon.exit;
    }
    const log = createLog("error", { write: () => true });
    const driver = createLocalDriver({ root: path.join(dataDir, "runtimes"), binary: undefined, vault, log });
    for (const id of tenants) await driver.erase(id);
    await driver.close();
    await rm(dataDir, { recursive: true, force: true });
    for (const server of [gate, model, telegram]) await server.close();
    await database[Symbol.asyncDispose]();
  }

  return {
    database,
    telegram,
    vault,
    env,
    gate,
    openclaw,
    start,
    close,
    /** An active tenant with a sandbox runtime; a daemon has to be there. */
    async newTenant(slug: string, chat: number): Promise<TenantId> {
      const owner = ["--email", `${slug}@example.com`, "--chat", String(chat), "--billing-exempt"];
      const id = expectCode(await openclaw("tenant", "create", slug, ...owner), 0).stdout.trim() as TenantId;
      tenants.add(id);
      expectCode(await openclaw("tenant", "provision", slug, "--wait"), 0);
      return id;
    },
    async show(slug: string) {
      const { keys, runtime } = documentOf(expectCode(await openclaw("tenant", "show", slug, "--json"), 0));
      return { keys, runtime } as {
        keys: { generation: number; rotation: { phase: string } | null };
        runtime: { state: string; address: string };
      };
    },
    async phase(id: TenantId) {
      const rows = await database.pool.query(
        `SELECT CASE WHEN expires_at IS NOT NULL THEN 'overlapping' WHEN adopted_at IS NOT NULL THEN 'switching'
           WHEN minted_at IS NOT NULL THEN 'spreading' ELSE 'minting' END AS phase FROM key_rotations WHERE tenant_id = $1`,
        [id],
      );
      return (rows.rows[0]?.phase as string | undefined) ?? "none";
    },
    async keysOf(id: TenantId): Promise<Record<TenantSecret, string>> {
      const { keyGeneration = 0 } = (await findTenantById(database.db, id)) ?? {};
      const names = TENANT_SECRETS.map((secret) => [secret, tenantSecretName(id, secret, keyGeneration)] as const);
      const read = await Promise.all(names.map(async ([secret, name]) => [secret, await vault.get(name)]));
      return Object.fromEntries(read);
    },
    /** The minute in which old keys hold is over. */
    async endOverlap(id: TenantId): Promise<void> {
      await database.pool.query("UPDATE key_rotations SET expires_at = now() WHERE tenant_id = $1", [id]);
      await database.pool.query(
        `SELECT graphile_worker.reschedule_jobs(array_agg(id), run_at => now()) FROM graphile_worker.jobs
         WHERE key = $1 AND locked_at IS NULL`,
        [`rotate-keys:${id}`],
      );
    },
  };
}

/** That runtimes with users of their own can reach. */
async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-keys-"));
  await chmod(folder, 0o755);
  return folder;
}

/** Passes calls on to whatever `target` is; while there is none, or it is gone, nobody answers. */
async function startGate() {
  const calls: GatewayCall[] = [];
  const state = { target: "" };
  async function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { host: _host, connection: _connection, ...headers } = request.headers;
    try {
      const body = request.method === "POST" ? await readBody(request) : null;
      const method = request.method === "POST" ? "POST" : "GET";
      const answer = await forward(`${state.target}${request.url}`, { method, headers, body });
      calls.push({ ...identify(request), status: answer.statusCode });
      response.writeHead(answer.statusCode, answer.headers);
      for await (const chunk of answer.body) response.write(chunk);
      response.end();
    } catch {
      // The daemon is gone: so is the connection.
      response.destroy();
    }
  }
  const server = await startLoopback(pass);
  return { ...server, calls, state };
}

function identify({ url = "", headers }: IncomingMessage): Pick<GatewayCall, "kind" | "credential"> {
  const token = /\/telegram\/bot([^/]+)\//.exec(url)?.[1];
  return token === undefined
    ? { kind: "model", credential: String(headers["x-api-key"]) }
    : { kind: "telegram", credential: token };
}

/** Telegram sends an update until it is taken. */
export async function sendUpdate(publicUrl: string, chat: number, id: number, text: string): Promise<void> {
  const from = { id: chat, is_bot: false, first_name: "Ann" };
  const message = { message_id: id, date: 1_800_000_000, chat: { id: chat, type: "private" }, from, text };
  const { status } = await call(`${publicUrl}/webhooks/telegram`, {
    method: "POST",
    headers: { "x-telegram-bot-api-secret-token": WEBHOOK_SECRET, "content-type": "application/json" },
    body: JSON.stringify({ update_id: id, message }),
  });
  assert.equal(status, 200);
}

export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const deadline = performance.now() + WAIT_MS; !(await condition()); await delay(50)) {
    if (performance.now() > deadline) throw new Error(`it does not come about that ${what}`);
  }
}
