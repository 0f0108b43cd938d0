import { randomBytes, randomInt } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { z } from "zod";
import { inheritedEnvironment } from "../../core/platform/config.ts";
import { makeDataDir } from "../../core/platform/data-dir.ts";
import { ConfigError } from "../../core/platform/errors.ts";

const settings = z.object({
  publicPort: z.int(),
  internalPort: z.int(),
  telegramBotToken: z.string(),
  telegramWebhookSecret: z.string(),
  stripeWebhookSecret: z.string(),
  modelApiKey: z.string(),
  chatId: z.int(),
});

/** What one quickstart keeps between its runs. */
export type QuickstartSettings = z.output<typeof settings>;

/** The settings of the run before, else new ones; ports that somebody else took meanwhile are replaced. */
export async function openSettings(dataDir: string): Promise<QuickstartSettings> {
  await makeDataDir(dataDir);
  const file = path.join(dataDir, "quickstart.json");
  const kept = await readSettings(file);
  const current: QuickstartSettings = {
    telegramBotToken: `${randomInt(1_000_000_000, 9_999_999_999)}:${secret()}`,
    telegramWebhookSecret: secret(),
    stripeWebhookSecret: `whsec_${secret()}`,
    modelApiKey: secret(),
    chatId: randomInt(100_000_000, 999_999_999),
    ...kept,
    publicPort: await freePort(kept?.publicPort),
    internalPort: await freePort(kept?.internalPort),
  };
  await writeFile(file, `${JSON.stringify(current, null, 2)}\n`, { mode: 0o600 });
  return current;
}

async function readSettings(file: string): Promise<QuickstartSettings | undefined> {
  try {
    return settings.parse(JSON.parse(await readFile(file, "utf8")));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new ConfigError("quickstart_damaged", [`${file} can't be read; delete its folder to start afresh`], {
      cause: error,
    });
  }
}

function secret(): string {
  return randomBytes(24).toString("base64url");
}

/** `wanted` if nobody listens there, else any port that is free. */
function freePort(wanted = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", () => freePort().then(resolve, reject));
    probe.listen(wanted, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() =>
        typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no port")),
      );
    });
  });
}

const ACCOUNT_VARIABLES =
  /^(STRIPE|TELEGRAM|AZURE|ANTHROPIC|OPENAI|GOOGLE|SAUTAI)_|^(DATABASE_URL|REDIS_URL|OPENCLAW_.*)$/;

/** The environment of a daemon that can't reach any real account: everything is generated or on this machine. */
export function isolatedEnvironment(
  dataDir: string,
  own: QuickstartSettings,
  loopback: { telegramUrl: string; modelUrl: string },
): Record<string, string> {
  const inherited = Object.entries(inheritedEnvironment()).filter(([name]) => !ACCOUNT_VARIABLES.test(name));
  return {
    ...Object.fromEntries(inherited.map(([name, value]) => [name, value ?? ""])),
    OPENCLAW_DATA_DIR: dataDir,
    OPENCLAW_PUBLIC_LISTEN: `127.0.0.1:${own.publicPort}`,
    OPENCLAW_INTERNAL_LISTEN: `127.0.0.1:${own.internalPort}`,
    OPENCLAW_RUNTIME: "local",
    OPENCLAW_VAULT: "file",
    STRIPE_WEBHOOK_SECRET: own.stripeWebhookSecret,
    TELEGRAM_BOT_TOKEN: own.telegramBotToken,
    TELEGRAM_WEBHOOK_SECRET: own.telegramWebhookSecret,
    TELEGRAM_API_ROOT: loopback.telegramUrl,
    ANTHROPIC_API_KEY: own.modelApiKey,
    ANTHROPIC_BASE_URL: loopback.modelUrl,
    OPENAI_API_KEY: own.modelApiKey,
    OPENAI_BASE_URL: loopback.modelUrl,
  };
}
