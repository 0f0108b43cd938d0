import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { TestContext } from "node:test";
import { sql } from "kysely";
import { createTestDatabase, type TestDatabase } from "../src/core/testing/database.ts";
import { type LoopbackAzure, startLoopbackAzure } from "../src/core/testing/fakes/azure/arm/test-setup.ts";
import { LOOPBACK_CERTIFICATE } from "../src/core/testing/fakes/azure/certificate.ts";
import { startModelServer } from "../src/core/testing/fakes/model-server.ts";
import { startTelegramServer, type TelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { openFolder, temporaryFolder } from "./command.ts";
import { call, type Daemon, startDaemonOf } from "./daemon-process.ts";

const BOT_TOKEN = "4242:loopback-bot-token";
const SECRET = "webhook-secret";

/** From which it is told whether a runtime idles. */
const MOMENTS = [
  ["tenants", "hibernated_at"],
  ["runtime_calls", "at"],
  ["telegram_updates", "finished_at"],
  ["message_days", "last_at"],
  ["usage_records", "at"],
] as const;

export type AzureStage = LoopbackAzure & {
  database: TestDatabase;
  telegram: TelegramServer;
  /** Of daemons and of the command line. */
  env: Record<string, string>;
  openclaw: Awaited<ReturnType<typeof openFolder>>;
  startDaemon(): Promise<Daemon>;
  /** The time is over in which a delivery may be under way to a runtime that is told to sleep, and jobs wait for nothing more. */
  passQuietTime(): Promise<void>;
};

/** A database, a bot and Azure with two stamps, all on loopback, and daemons and the command line over them. */
export async function openAzureStage(
  t: TestContext,
  options: { containers?: "virtual" | "sandbox"; callsPerMinute?: number; env?: Record<string, string> } = {},
): Promise<AzureStage> {
  const { containers = "virtual", callsPerMinute = 1_000_000 } = options;
  const azure = await startLoopbackAzure(t, { stampCount: 2, containers });
  const database = await createTestDatabase();
  t.after(() => database[Symbol.asyncDispose]());
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  t.after(() => telegram.close());
  const model = await startModelServer();
  t.after(() => model.close());
  const folder = await temporaryFolder(t);
  const [first, second] = azure.stamps;
  if (first === undefined || second === undefined) throw new Error("there are two stamps");
  const certificate = path.join(folder, "loopback.pem");
  await writeFile(certificate, LOOPBACK_CERTIFICATE);
  const stampsFile = path.join(folder, "stamps.json");
  await writeFile(stampsFile, JSON.stringify({ stamps: [second] }));
  const env = {
    DATABASE_URL: database.url,
    TELEGRAM_API_ROOT: telegram.url,
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
    TELEGRAM_WEBHOOK_SECRET: SECRET,
    ANTHROPIC_API_KEY: "sk-loopback",
    ANTHROPIC_BASE_URL: model.url,
    NODE_EXTRA_CA_CERTS: certificate,
    AZURE_SUBSCRIPTION_ID: first.subscriptionId,
    AZURE_RESOURCE_GROUP: first.resourceGroup,
    AZURE_LOCATION: first.location,
    AZURE_CONTAINER_ENV_ID: first.environmentId,
    AZURE_ACR_SERVER: first.acrServer ?? "",
    AZURE_KEY_VAULT_NAME: first.vaultName,
    AZURE_KEY_VAULT_URL: first.vaultUrl,
    AZURE_STORAGE_ACCOUNT: first.storageAccount,
    AZURE_RESOURCE_MANAGER_ENDPOINT: azure.arm.url,
    AZURE_ARM_CALLS_PER_MINUTE: String(callsPerMinute),
    OPENCLAW_STAMPS_FILE: stampsFile,
    OPENCLAW_RUNTIME_IMAGE: `${first.acrServer}/openclaw:1`,
    ...azure.identity.env,
    ...options.env,
  };
  const script = path.join(import.meta.dirname, "azure-daemon.ts");
  return {
    ...azure,
    database,
    telegram,
    env,
    openclaw: await openFolder(t, env),
    startDaemon: () => startDaemonOf(t, [script], env),
    async passQuietTime() {
      for (const [table, column] of MOMENTS) {
        const moment = sql.ref(column);
        await sql`UPDATE ${sql.table(table)} SET ${moment} = ${moment} - interval '10 minutes'`.execute(database.db);
      }
      await sql`SELECT graphile_worker.reschedule_jobs(array_agg(id), run_at => now()) FROM graphile_worker.jobs`.execute(
        database.db,
      );
    },
  };
}

let updates = 0;

/** Sends what a person writes to the bot, as Telegram does; settles once it is accepted for good. */
export async function write(daemon: Daemon, chat: number, text: string, from: number = chat): Promise<void> {
  updates += 1;
  const message = {
    message_id: updates,
    date: 1_800_000_000,
    chat: { id: chat, type: "private" },
    from: { id: from, is_bot: false, first_name: "Alice" },
    text,
  };
  const { status } = await call(`${daemon.publicUrl}/webhooks/telegram`, {
    method: "POST",
    headers: { "x-telegram-bot-api-secret-token": SECRET, "content-type": "application/json" },
    body: JSON.stringify({ update_id: updates, message }),
  });
  if (status !== 200) throw new Error(`the webhook answered ${status}`);
}
