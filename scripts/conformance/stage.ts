import { execFile } from "node:child_process";
import { chmod, glob, mkdtemp, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { type DaemonProcess, startDaemonProcess } from "../../src/commands/quickstart/daemon-process.ts";
import { isolatedEnvironment, openSettings, type QuickstartSettings } from "../../src/commands/quickstart/settings.ts";
import { createLocalDriver } from "../../src/core/adapters/runtime/local/local-driver.ts";
import { stopEmbeddedPostgres } from "../../src/core/platform/embedded-postgres.ts";
import { createLog } from "../../src/core/platform/log.ts";
import { packageRoot } from "../../src/core/platform/package-root.ts";
import { type ModelServer, startModelServer } from "../../src/core/testing/fakes/model-server.ts";
import { type OAuthProvider, startOAuthProvider } from "../../src/core/testing/fakes/oauth/oauth-server.ts";
import { startTelegramServer, type TelegramServer } from "../../src/core/testing/fakes/telegram-server.ts";
import { loopbackGoogle } from "./connection.ts";

const LOG_LINES = 40;

export type Stage = {
  dataDir: string;
  own: QuickstartSettings;
  telegram: TelegramServer;
  model: ModelServer;
  /** In the place of Google. */
  oauth: OAuthProvider;
  /** Runs a command as an operator would; its standard output. */
  openclaw(...args: string[]): Promise<string>;
  startDaemon(): Promise<DaemonProcess>;
};

/**
 * A data folder below `parent`, the outside on loopback, and the commands between them. What has to be undone is pushed to `opened`
 * as it comes about, to be called in reverse.
 */
export async function openStage(options: {
  parent: string;
  env: Record<string, string>;
  model: Parameters<typeof startModelServer>[0];
  opened: (() => Promise<unknown>)[];
  signal: AbortSignal;
}): Promise<Stage> {
  const { opened, signal } = options;
  const dataDir = await mkdtemp(path.join(options.parent, "openclaw-conformance-data-"));
  opened.push(() => rm(dataDir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }));
  // As root, the database and the runtimes run as other users.
  await chmod(dataDir, 0o711);
  const own = await openSettings(dataDir);
  const telegram = await startTelegramServer({ token: own.telegramBotToken });
  opened.push(telegram.close);
  const model = await startModelServer({ ...options.model, apiKey: own.modelApiKey });
  opened.push(model.close);
  const oauth = await startOAuthProvider({ manner: "google" });
  opened.push(oauth.close);
  const env = {
    ...isolatedEnvironment(dataDir, own, { telegramUrl: telegram.url, modelUrl: model.url }),
    OPENCLAW_PUBLIC_URL: `http://127.0.0.1:${own.publicPort}`,
    ...(await loopbackGoogle(dataDir, oauth)),
    ...options.env,
  };
  opened.push(() => stopEmbeddedPostgres({ dataDir }));
  return {
    dataDir,
    own,
    telegram,
    model,
    oauth,
    async openclaw(...args) {
      const command = [path.join(packageRoot(), "bin", "openclaw.js"), ...args];
      // Away from the .env of the folder where this was typed.
      return (await promisify(execFile)(process.execPath, command, { cwd: dataDir, env, signal })).stdout;
    },
    async startDaemon() {
      const daemon = await startDaemonProcess(dataDir, env);
      opened.push(() => endRuntimes(dataDir), daemon.stop);
      return daemon;
    },
  };
}

/** The last lines of every log, for a failure whose reason went down with the data folder. */
export async function readLogs(dataDir: string): Promise<string> {
  const texts: string[] = [];
  for await (const name of glob(["daemon.log", "runtimes/*/logs/runtime.log"], { cwd: dataDir })) {
    const lines = (await readFile(path.join(dataDir, name), "utf8")).trimEnd().split("\n");
    texts.push(`${name} ends with:\n${lines.slice(-LOG_LINES).join("\n")}`);
  }
  return texts.join("\n\n");
}

/** Runtimes outlive their daemon. */
async function endRuntimes(dataDir: string): Promise<void> {
  const vault = { get: async () => undefined };
  const root = path.join(dataDir, "runtimes");
  const driver = createLocalDriver({ root, binary: undefined, vault, log: createLog("warn") });
  for (const { tenantId } of await driver.list()) await driver.sleep(tenantId);
  await driver.close();
}
