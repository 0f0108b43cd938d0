import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { request } from "undici";
import type { StampId, TenantId } from "../../../platform/ids.ts";
import { startModelServer, type ModelServer } from "../../../testing/fakes/model-server.ts";
import { startTelegramServer, type TelegramServer } from "../../../testing/fakes/telegram-server.ts";
import type { RuntimeDriver, RuntimeSpec } from "../runtime-driver.ts";
import { createLocalDriver } from "./local-driver.ts";
import { hasCode } from "./files.ts";

export const BOT_TOKEN = "4242:AAtenantown";
export const WEBHOOK_SECRET = "webhook-secret-of-the-tenant";
const SECRETS: Record<string, string> = {
  "telegram-token": BOT_TOKEN,
  "webhook-secret": WEBHOOK_SECRET,
  "model-key": "model-key-of-the-tenant",
  "gateway-token": "gateway-token-of-the-tenant",
};
export const SENDER = 111_222_333;

export type Bench = {
  root: string;
  telegram: TelegramServer;
  model: ModelServer;
  driver: RuntimeDriver;
  secrets: Record<string, string>;
  another(binary?: string): Promise<RuntimeDriver>;
  spec(tenantId: TenantId, version: number, changes?: Partial<RuntimeSpec>): RuntimeSpec;
};

/** A local driver over an empty folder, with a Bot API and a model on loopback. Every runtime it made is removed after the test. */
export async function setUpLocal(
  t: TestContext,
  options: { binary?: string; model?: Parameters<typeof startModelServer>[0] } = {},
): Promise<Bench> {
  const dataDir = await mkdtemp(path.join(tmpdir(), "openclaw-local-"));
  await chmod(dataDir, 0o711);
  const root = path.join(dataDir, "runtimes");
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  const model = await startModelServer(options.model);
  const secrets = { ...SECRETS };
  const silent = { info() {}, warn() {}, error() {} };
  const drivers: RuntimeDriver[] = [];
  const another = async (binary = options.binary): Promise<RuntimeDriver> => {
    const made = createLocalDriver({ root, binary, vault: { get: async (name) => secrets[name] }, log: silent });
    drivers.push(made);
    return made;
  };
  const driver = await another();
  t.after(async () => {
    for (const each of drivers) await each.close();
    for (const { tenantId } of await driver.list()) await driver.remove(tenantId);
    await telegram.close();
    await model.close();
    await rm(dataDir, { recursive: true, force: true });
  });
  return {
    root,
    telegram,
    model,
    driver,
    secrets,
    another,
    spec: (tenantId, version, changes) => localSpec({ telegram, model }, tenantId, version, changes),
  };
}

function localSpec(
  servers: { telegram: TelegramServer; model: ModelServer },
  tenantId: TenantId,
  version: number,
  changes: Partial<RuntimeSpec> = {},
): RuntimeSpec {
  const unhashed = {
    tenantId,
    stampId: "default" as StampId,
    slug: "acme",
    image: `openclaw:${version}`,
    config: {
      gateway: {
        mode: "local",
        port: 18_789,
        bind: "lan",
        auth: { mode: "token", token: "${OPENCLAW_GATEWAY_TOKEN}" },
      },
      models: {
        providers: {
          cp: { baseUrl: `${servers.model.url}/v1`, apiKey: "${CP_MODEL_KEY}", api: "openai-completions", models: [] },
        },
      },
      agents: { defaults: { model: { primary: "cp/claude" }, workspace: "/home/node/.openclaw/workspace" } },
      channels: {
        telegram: {
          name: "acme",
          botToken: "${TELEGRAM_BOT_TOKEN}",
          apiRoot: servers.telegram.url,
          dmPolicy: "allowlist",
          allowFrom: [String(SENDER)],
          groupPolicy: "disabled",
          webhookUrl: "https://control-plane.invalid/telegram-webhook",
          webhookSecret: "${TELEGRAM_WEBHOOK_SECRET}",
          webhookHost: "0.0.0.0",
          webhookPort: 8_787,
          webhookPath: "/telegram-webhook",
        },
      },
    },
    env: { TZ: "Europe/Berlin" },
    secrets: {
      OPENCLAW_GATEWAY_TOKEN: "gateway-token",
      CP_MODEL_KEY: "model-key",
      TELEGRAM_BOT_TOKEN: "telegram-token",
      TELEGRAM_WEBHOOK_SECRET: "webhook-secret",
    },
    cpu: 1,
    memoryMiB: 512,
    ...changes,
  };
  return { ...unhashed, hash: createHash("sha256").update(JSON.stringify(unhashed)).digest("hex") };
}

/** Pids of what runs in a tenant's folder, from the system and not from our records. */
export async function processesOf(root: string, tenantId: TenantId): Promise<number[]> {
  const home = path.join(root, tenantId, "home");
  const pids = (await readdir("/proc")).filter((name) => /^[0-9]+$/.test(name)).map(Number);
  const folders = await Promise.all(pids.map((pid) => workingFolder(pid)));
  return pids.filter((_, index) => folders[index] === home);
}

async function workingFolder(pid: number): Promise<string | undefined> {
  try {
    return await readlink(`/proc/${pid}/cwd`);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH", "EACCES", "EINVAL")) return undefined;
    throw error;
  }
}

export async function onlyProcessOf(root: string, tenantId: TenantId): Promise<number> {
  const [pid, ...others] = await processesOf(root, tenantId);
  assert.ok(pid !== undefined && others.length === 0, "exactly one process");
  return pid;
}

export async function environmentOf(pid: number): Promise<Record<string, string>> {
  const entries = (await readFile(`/proc/${pid}/environ`, "utf8")).split("\0").filter((entry) => entry !== "");
  return Object.fromEntries(
    entries.map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
  );
}

export function messageUpdate(
  updateId: number,
  text: string,
  changes: { from?: number; chatType?: string; messageId?: number } = {},
) {
  const from = changes.from ?? SENDER;
  return {
    update_id: updateId,
    message: {
      message_id: changes.messageId ?? updateId,
      date: 1_790_000_000,
      from: { id: from, is_bot: false, first_name: "Ada" },
      chat: { id: from, type: changes.chatType ?? "private" },
      text,
    },
  };
}

/** Posts to a webhook listener as the router would. */
export async function post(
  address: string | undefined,
  body: unknown,
  changes: { path?: string; secret?: string; method?: "GET" | "POST" } = {},
): Promise<{ status: number; accepted: unknown; text: string }> {
  const {
    statusCode,
    headers,
    body: answer,
  } = await request(`${address}${changes.path ?? "/telegram-webhook"}`, {
    method: changes.method ?? "POST",
    headers: {
      "content-type": "application/json",
      "x-telegram-bot-api-secret-token": changes.secret ?? WEBHOOK_SECRET,
    },
    ...(changes.method === "GET" ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  return { status: statusCode, accepted: headers["x-openclaw-delivery-accepted"], text: await answer.text() };
}
