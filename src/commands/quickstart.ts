import path from "node:path";
import { Command } from "commander";
import type pg from "pg";
import Stripe from "stripe";
import { request } from "undici";
import { createLocalDriver } from "../core/adapters/runtime/local/local-driver.ts";
import { openStore, runtimesFolder, type Store } from "../core/context.ts";
import { loadConfig, readEnvironment } from "../core/platform/config.ts";
import { reachableDataDir } from "../core/platform/data-dir.ts";
import { stopEmbeddedPostgres } from "../core/platform/embedded-postgres.ts";
import { ConflictError, TimeoutError, UpstreamError } from "../core/platform/errors.ts";
import { createLog } from "../core/platform/log.ts";
import { migrate } from "../core/platform/migrations.ts";
import { packageRoot } from "../core/platform/package-root.ts";
import { createTenant, type Tenant } from "../core/tenants/tenants.ts";
import { startModelServer } from "../core/testing/fakes/model-server.ts";
import { startTelegramServer, type TelegramServer } from "../core/testing/fakes/telegram-server.ts";
import { printJson, say } from "./output.ts";
import { type DaemonProcess, startDaemonProcess } from "./quickstart/daemon-process.ts";
import { isolatedEnvironment, openSettings, type QuickstartSettings } from "./quickstart/settings.ts";
import { createSteps } from "./quickstart/steps.ts";
import { waitWhile } from "./tenant/wait.ts";

const SLUG = "quickstart";
const PROVISION_TIMEOUT_MS = 60_000;
const REPLY_TIMEOUT_MS = 30_000;

export function command(): Command {
  return new Command()
    .option("--exit", "end after the pass instead of keeping everything running")
    .option("--json", "print the steps with their durations as one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw quickstart --exit --json")
    .action(async ({ exit, json }: { exit?: boolean; json?: boolean }) => {
      const wanted = readEnvironment()["OPENCLAW_DATA_DIR"] || path.join(".openclaw", "quickstart");
      const dataDir = await reachableDataDir(path.resolve(wanted));
      await runQuickstart(dataDir, { exit: exit === true, json: json === true });
    });
}

async function runQuickstart(dataDir: string, { exit, json }: { exit: boolean; json: boolean }): Promise<void> {
  const begun = performance.now();
  const stopping = stopOnInterrupt();
  const steps = createSteps(json, stopping);
  const opened: (() => Promise<unknown>)[] = [];
  try {
    const own = await openSettings(dataDir);
    const [telegram, model] = await steps.run("loopback Bot API and model", () =>
      Promise.all([
        startTelegramServer({ token: own.telegramBotToken }),
        startModelServer({ apiKey: own.modelApiKey, reply: (prompt) => `You wrote: ${prompt}` }),
      ]),
    );
    opened.push(telegram.close, model.close);
    const env = isolatedEnvironment(dataDir, own, { telegramUrl: telegram.url, modelUrl: model.url });
    const { config, secrets } = loadConfig(env);
    const log = createLog("warn");
    const store = await steps.run("embedded PostgreSQL", () => openStore(config, secrets, log));
    opened.push(store.close);
    const claim = await claimFolder(store);
    // After the claim: a database that another quickstart works with is not ours to stop.
    opened.splice(-1, 0, () => stopEmbeddedPostgres({ dataDir }));
    opened.push(async () => claim.release(true));
    await steps.run(
      "migrations",
      () => migrate(store.pool, path.join(packageRoot(), "migrations")),
      ({ applied }) => (applied.length === 0 ? "current" : `${applied.length} applied`),
    );
    const daemon = await steps.run(
      "daemon",
      () => startDaemonProcess(dataDir, env),
      ({ publicUrl }) => publicUrl,
    );
    opened.push(() => stopRuntimes(store), daemon.stop);
    const tenant = await steps.run(
      "tenant",
      () => findOrCreateTenant(store, own),
      ({ slug, id }) => `${slug} (${id})`,
    );
    await steps.run("signed Stripe checkout event accepted", () => postCheckout(store, daemon, own, tenant));
    await steps.run("runtime healthy", () => untilActive(store, tenant));
    const reply = await steps.run(
      "Telegram update answered",
      () => converse(store, daemon, telegram, own),
      (text) => JSON.stringify(text),
    );
    const totalMs = Math.round(performance.now() - begun);
    if (json)
      printJson({
        ok: true,
        totalMs,
        dataDir,
        publicUrl: daemon.publicUrl,
        tenant: tenant.id,
        reply,
        steps: steps.done,
      });
    else say(`\nAll of it works, in ${(totalMs / 1_000).toFixed(1)} s.`);
    if (!exit) {
      if (!json) say(whatNext(dataDir, daemon));
      await untilStopped(daemon, stopping);
    }
  } finally {
    for (const close of opened.toReversed()) await close();
  }
}

/** Aborted by the first Ctrl-C or SIGTERM, after which what runs is ended in order; a second one means now. */
function stopOnInterrupt(): AbortSignal {
  const stopping = new AbortController();
  const stop = () => {
    if (stopping.signal.aborted) process.exit(130);
    stopping.abort();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return stopping.signal;
}

/** Holds the folder for as long as the connection given is kept. @throws ConflictError when another quickstart holds it. */
async function claimFolder({ pool, config }: Store): Promise<pg.PoolClient> {
  const client = await pool.connect();
  const { rows } = await client.query<{ claimed: boolean }>(
    "SELECT pg_try_advisory_lock(hashtext('openclaw quickstart')) AS claimed",
  );
  if (rows[0]?.claimed === true) return client;
  client.release();
  throw new ConflictError(
    "quickstart_running",
    `another quickstart runs in ${config.dataDir}; end it, or set OPENCLAW_DATA_DIR to another folder`,
  );
}

async function findOrCreateTenant(store: Store, own: QuickstartSettings): Promise<Tenant> {
  const input = { slug: SLUG, displayName: "Quickstart", email: "quickstart@example.com", telegramChatId: own.chatId };
  return (await createTenant(store, input, { idempotencyKey: "quickstart" })).tenant;
}

/** A checkout of the tenant, completed and paid, as Stripe would post it: signed with the webhook's secret. */
async function postCheckout(
  { clock }: Store,
  daemon: DaemonProcess,
  own: QuickstartSettings,
  tenant: Tenant,
): Promise<void> {
  const created = Math.floor(clock.now().getTime() / 1_000);
  const payload = JSON.stringify({
    id: `evt_quickstart_${created}`,
    object: "event",
    api_version: "2026-10-28",
    created,
    livemode: false,
    type: "checkout.session.completed",
    data: {
      object: {
        id: "cs_quickstart",
        object: "checkout.session",
        mode: "subscription",
        status: "complete",
        payment_status: "paid",
        client_reference_id: tenant.id,
        customer: "cus_quickstart",
        subscription: "sub_quickstart",
        metadata: { tenant_id: tenant.id },
      },
    },
  });
  const signature = Stripe.webhooks.generateTestHeaderString({ payload, secret: own.stripeWebhookSecret });
  await post(`${daemon.publicUrl}/webhooks/stripe`, payload, { "stripe-signature": signature });
}

async function untilActive(store: Store, { id }: Tenant): Promise<void> {
  await waitWhile(store, id, "pending", PROVISION_TIMEOUT_MS);
  const tenant = await waitWhile(store, id, "provisioning", PROVISION_TIMEOUT_MS);
  if (tenant.status === "active") return;
  throw new UpstreamError(
    "provisioning_failed",
    `the tenant is ${tenant.status}: ${tenant.statusReason ?? "no reason recorded"}`,
    {
      service: "runtime",
      retryable: true,
    },
  );
}

/** Says hello in the tenant's chat and gives what the assistant answers. */
async function converse(
  { clock }: Store,
  daemon: DaemonProcess,
  telegram: TelegramServer,
  own: QuickstartSettings,
): Promise<string> {
  const now = clock.now().getTime();
  const from = { id: own.chatId, is_bot: false, first_name: "You", language_code: "en" };
  const message = {
    message_id: now % 1_000_000_000,
    date: Math.floor(now / 1_000),
    from,
    chat: { id: own.chatId, type: "private" },
    text: "Hello!",
  };
  const answered = telegram
    .waitFor((call) => call.method === "sendMessage", REPLY_TIMEOUT_MS)
    .catch((error: unknown) => {
      throw new TimeoutError(
        "no_reply",
        `no reply within ${REPLY_TIMEOUT_MS / 1_000} s; see daemon.log in the data folder`,
        { cause: error },
      );
    });
  await post(`${daemon.publicUrl}/webhooks/telegram`, JSON.stringify({ update_id: now, message }), {
    "x-telegram-bot-api-secret-token": own.telegramWebhookSecret,
  });
  return String((await answered).params["text"]);
}

async function post(url: string, body: string, headers: Record<string, string>): Promise<void> {
  const response = await request(url, {
    method: "POST",
    body,
    headers: { "content-type": "application/json", ...headers },
  });
  const text = await response.body.text();
  if (response.statusCode === 200) return;
  throw new UpstreamError("daemon_refused", `the daemon answered ${response.statusCode}: ${text}`, {
    service: "daemon",
    retryable: false,
  });
}

/** Nothing is left running: the next run wakes the runtime again, as a message would. */
async function stopRuntimes(store: Store): Promise<void> {
  const vault = { get: async () => undefined };
  const driver = createLocalDriver({ root: runtimesFolder(store.config), binary: undefined, vault, log: store.log });
  for (const { tenantId } of await driver.list()) await driver.sleep(tenantId);
  await driver.close();
}

function whatNext(dataDir: string, daemon: DaemonProcess): string {
  return `
Everything keeps running until Ctrl-C. In another terminal:

  export OPENCLAW_DATA_DIR=${dataDir}
  npx openclaw tenant list
  npx openclaw tenant show ${SLUG}
  npx openclaw tenant events ${SLUG}
  npx openclaw tenant logs ${SLUG}
  curl ${daemon.publicUrl}/healthz
`;
}

function untilStopped(daemon: DaemonProcess, stopping: AbortSignal): Promise<void> {
  const stopped = new Promise<void>((resolve) => {
    if (stopping.aborted) resolve();
    else stopping.addEventListener("abort", () => resolve());
  });
  const gone = daemon.ended.then(() => {
    throw new UpstreamError("daemon_ended", "the daemon ended by itself; see daemon.log in the data folder", {
      service: "daemon",
      retryable: true,
    });
  });
  return Promise.race([stopped, gone]);
}
