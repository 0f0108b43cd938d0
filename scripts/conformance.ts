/**
 * `npm run conformance`: a tenant on the real OpenClaw, end to end. Installs it outside the project, runs the daemon with the
 * local driver on it against a loopback Bot API and a loopback model, and shows what the control plane relies on.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { request } from "undici";
import { type DaemonProcess, startDaemonProcess } from "../src/commands/quickstart/daemon-process.ts";
import { isolatedEnvironment, openSettings, type QuickstartSettings } from "../src/commands/quickstart/settings.ts";
import { createSteps } from "../src/commands/quickstart/steps.ts";
import { waitWhile } from "../src/commands/tenant/wait.ts";
import { createLocalDriver } from "../src/core/adapters/runtime/local/local-driver.ts";
import { openStore, runtimesFolder, type Store } from "../src/core/context.ts";
import { findRuntime, provisionTenant } from "../src/core/orchestrator/orchestrator.ts";
import { loadConfig } from "../src/core/platform/config.ts";
import { stopEmbeddedPostgres } from "../src/core/platform/embedded-postgres.ts";
import { createLog } from "../src/core/platform/log.ts";
import { migrate } from "../src/core/platform/migrations.ts";
import { packageRoot } from "../src/core/platform/package-root.ts";
import { createTenant, type Tenant } from "../src/core/tenants/tenants.ts";
import { startModelServer } from "../src/core/testing/fakes/model-server.ts";
import { startTelegramServer, type TelegramServer } from "../src/core/testing/fakes/telegram-server.ts";

const VERSION = "2026.9.6";
const START_TIMEOUT_MS = 180_000;
const REPLY_TIMEOUT_MS = 120_000;
/** What a person gets only if a turn went the whole way: OpenClaw itself writes too, after a crash for one. */
const MODEL_REPLY = "These are the words of the model.";
/** Calls that would change the shared bot for everybody; none of them may get through. */
const SHARED_BOT_METHODS = ["setWebhook", "deleteWebhook", "getUpdates", "setMyCommands", "deleteMyCommands"];

const run = promisify(execFile);
const begun = performance.now();
const steps = createSteps(false);
const opened: (() => Promise<unknown>)[] = [];
try {
  await conform();
  console.log(`conformance passed in ${((performance.now() - begun) / 1_000).toFixed(0)} s`);
} finally {
  for (const close of opened.toReversed()) await close();
}

async function conform(): Promise<void> {
  const binary = await steps.run(`openclaw@${VERSION} installed`, install, (file) => file);
  const dataDir = await mkdtemp(path.join(tmpdir(), "openclaw-conformance-data-"));
  await chmod(dataDir, 0o711);
  opened.push(() => rm(dataDir, { recursive: true, force: true }));

  const own = await openSettings(dataDir);
  const gate = createGate();
  const telegram = await startTelegramServer({ token: own.telegramBotToken });
  const model = await startModelServer({
    apiKey: own.modelApiKey,
    reply: () => MODEL_REPLY,
    beforeEvent: () => gate.pass(),
  });
  opened.push(telegram.close, model.close);
  const loopback = { telegramUrl: telegram.url, modelUrl: model.url };
  const env = { ...isolatedEnvironment(dataDir, own, loopback), OPENCLAW_RUNTIME_BIN: binary };

  const { config, secrets } = loadConfig(env);
  const store = await openStore(config, secrets, createLog("warn"));
  opened.push(() => stopEmbeddedPostgres({ dataDir }), store.close);
  await migrate(store.pool, path.join(packageRoot(), "migrations"));
  const daemon = await steps.run(
    "daemon",
    () => startDaemonProcess(dataDir, env),
    ({ publicUrl }) => publicUrl,
  );
  const tenant = await newTenant(store, own);
  opened.push(() => removeRuntime(store, tenant), daemon.stop);

  await steps.run(
    "runtime healthy",
    () => untilHealthy(store, tenant),
    (address) => address,
  );
  await steps.run("configuration valid without warnings", () => validate(store, binary, tenant));
  await steps.run("update answered through the gateways", () => converse(daemon, telegram, own, 1, "Hello!"), shorten);

  await steps.run(
    "second update survives SIGKILL of the runtime",
    async () => {
      gate.close();
      const thinking = model.waitFor(
        (call) => JSON.stringify(call.body).includes("Are you still there?"),
        REPLY_TIMEOUT_MS,
      );
      const answered = converse(daemon, telegram, own, 2, "Are you still there?");
      // In the middle of its turn: accepted for good, not answered yet.
      await Promise.race([thinking, answered]);
      // The whole of it: the process on record is only the parent of the one that works.
      process.kill(-(await runtimePid(store, tenant)), "SIGKILL");
      gate.open();
      return answered;
    },
    shorten,
  );

  await steps.run("the shared bot was left alone", async () => {
    const touched = telegram.calls.map((call) => call.method).filter((method) => SHARED_BOT_METHODS.includes(method));
    if (touched.length > 0) throw new Error(`these calls reached the Bot API: ${touched.join(", ")}`);
  });
}

/** Installs once per machine; a copy broken off never looks like a whole one. */
async function install(): Promise<string> {
  const folder = path.join(tmpdir(), `openclaw-conformance-${VERSION}-${process.getuid?.() ?? 0}`);
  const binary = path.join(folder, "node_modules", "openclaw", "openclaw.mjs");
  if (existsSync(binary)) return binary;
  const draft = `${folder}.${process.pid}.tmp`;
  await mkdir(draft, { mode: 0o755 });
  try {
    await writeFile(path.join(draft, "package.json"), '{"private":true}\n');
    await run("npm", ["install", `openclaw@${VERSION}`, "--no-audit", "--no-fund", "--loglevel=error"], { cwd: draft });
    // Tenants' users have to read it.
    await run("chmod", ["-R", "go+rX", draft]);
    await rm(folder, { recursive: true, force: true });
    await rename(draft, folder);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return binary;
}

async function newTenant(store: Store, own: QuickstartSettings): Promise<Tenant> {
  const input = {
    slug: "conformance",
    email: "conformance@example.com",
    telegramChatId: own.chatId,
    billingExempt: true,
  };
  const { tenant } = await createTenant(store, input);
  return provisionTenant(store, tenant.id, "conformance run");
}

async function untilHealthy(store: Store, { id }: Tenant): Promise<string> {
  const tenant = await waitWhile(store, id, "provisioning", START_TIMEOUT_MS);
  const address = (await findRuntime(store.db, id))?.address;
  if (tenant.status !== "active" || address == null)
    throw new Error(`the tenant is ${tenant.status}: ${tenant.statusReason}`);
  const response = await request(`${address}/healthz`);
  const body = await response.body.text();
  if (response.statusCode !== 200 || body.trim() !== "ok")
    throw new Error(`healthz answered ${response.statusCode}: ${body}`);
  return address;
}

/** Asks the real binary about the file that the runtime runs on. */
async function validate(store: Store, binary: string, { id }: Tenant): Promise<void> {
  const scratch = await mkdtemp(path.join(tmpdir(), "openclaw-conformance-validate-"));
  const env = {
    PATH: path.dirname(process.execPath),
    HOME: scratch,
    OPENCLAW_STATE_DIR: path.join(scratch, "state"),
    OPENCLAW_CONFIG_PATH: path.join(runtimesFolder(store.config), id, "openclaw.json"),
    OPENCLAW_GATEWAY_TOKEN: "any",
    CP_MODEL_KEY: "any",
    TELEGRAM_BOT_TOKEN: "1:any",
    TELEGRAM_WEBHOOK_SECRET: "any",
  };
  try {
    const { stdout } = await run(process.execPath, [binary, "config", "validate", "--json"], { env });
    const verdict: { valid: boolean; warnings: unknown[] } = JSON.parse(stdout);
    if (!verdict.valid || verdict.warnings.length > 0) throw new Error(stdout);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Says something in the tenant's chat and gives what the assistant answers to it. */
async function converse(
  daemon: DaemonProcess,
  telegram: TelegramServer,
  own: QuickstartSettings,
  nth: number,
  text: string,
) {
  const replies = () => telegram.messages(own.chatId).filter((sent) => sent.text?.includes(MODEL_REPLY)).length;
  const before = replies();
  const from = { id: own.chatId, is_bot: false, first_name: "You" };
  const date = Math.floor(performance.timeOrigin / 1_000) + nth;
  const message = { message_id: nth, date, from, chat: { id: own.chatId, type: "private" }, text };
  const answered = telegram.waitFor((call) => call.method === "sendMessage" && replies() > before, REPLY_TIMEOUT_MS);
  const response = await request(`${daemon.publicUrl}/webhooks/telegram`, {
    method: "POST",
    headers: { "x-telegram-bot-api-secret-token": own.telegramWebhookSecret },
    body: JSON.stringify({ update_id: nth, message }),
  });
  if (response.statusCode !== 200)
    throw new Error(`the webhook answered ${response.statusCode}: ${await response.body.text()}`);
  await answered;
  return telegram.messages(own.chatId).at(-1)?.text ?? "";
}

async function runtimePid(store: Store, { id }: Tenant): Promise<number> {
  const file = path.join(runtimesFolder(store.config), id, "process.json");
  const { pid }: { pid: number } = JSON.parse(await readFile(file, "utf8"));
  return pid;
}

async function removeRuntime(store: Store, { id }: Tenant): Promise<void> {
  const vault = { get: async () => undefined };
  const driver = createLocalDriver({ root: runtimesFolder(store.config), binary: undefined, vault, log: store.log });
  await driver.sleep(id);
  await driver.close();
}

/** Lets the model answer while open. */
function createGate() {
  let opening = Promise.resolve();
  let open: () => void = () => undefined;
  return {
    close() {
      ({ promise: opening, resolve: open } = Promise.withResolvers<void>());
    },
    open: () => open(),
    pass: () => opening,
  };
}

function shorten(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
