import path from "node:path";
import type { TokenCredential } from "@azure/identity";
import type { Redis } from "ioredis";
import type pg from "pg";
import type { Providers } from "./adapters/oauth/oauth-provider.ts";
import type { StripeApi } from "./adapters/stripe/stripe-api.ts";
import type { BotApi } from "./adapters/telegram/bot-api.ts";
import type { Pacer } from "./adapters/telegram/pacer.ts";
import type { RuntimeBackups } from "./adapters/runtime/runtime-backups.ts";
import type { RuntimeDriver } from "./adapters/runtime/runtime-driver.ts";
import type { RuntimeSnapshots } from "./adapters/runtime/runtime-snapshots.ts";
import { createAzureVault } from "./adapters/vault/azure-vault.ts";
import { createFileVault } from "./adapters/vault/file-vault.ts";
import type { RotateKey } from "./adapters/vault/key-rotation.ts";
import type { Vault } from "./adapters/vault/vault.ts";
import type { Actor } from "./platform/audit.ts";
import type { Check } from "./platform/check.ts";
import { type Clock, systemClock } from "./platform/clock.ts";
import { createStampVault } from "./adapters/vault/stamp-vault.ts";
import type { AzureConfig, Config, Secrets } from "./platform/config.ts";
import { createDaemonCount } from "./platform/daemons.ts";
import { createDb, createPool, type Db } from "./platform/db.ts";
import { ConfigError } from "./platform/errors.ts";
import type { StampId } from "./platform/ids.ts";
import type { Log } from "./platform/log.ts";
import { findStampOf, readStamps } from "./platform/stamps.ts";

/** What most commands need: configuration and the database. */
export type Store = {
  config: Config;
  secrets: Secrets;
  clock: Clock;
  log: Log;
  /** Who is acting, for the audit log. */
  actor: Actor;
  databaseUrl: string;
  pool: pg.Pool;
  db: Db;
  /** Starts the embedded database again if it is gone; another server is somebody else's to look after. */
  reviveDatabase(): Promise<void>;
  close(): Promise<void>;
};

/** All of it: what a daemon needs. */
export type Context = Store & {
  vault: Vault;
  runtimes: RuntimeDriver;
  /** Undefined while no bot token is configured. */
  botApi: BotApi | undefined;
  /** For all that is sent by the bot. */
  pacer: Pacer;
  /** Undefined: limits are kept in memory. */
  redis: Redis | undefined;
  /** Undefined without a key: then the events' own words count. */
  stripe: StripeApi | undefined;
  /** What tenants may connect. */
  providers: Providers;
};

export type Overrides = { clock?: Clock; actor?: Actor; poolSize?: number; runtimes?: RuntimeDriver; pacer?: Pacer };

/** Finds the database, starting the embedded one if need be, and opens a pool that connects on first use. */
export async function openStore(config: Config, secrets: Secrets, log: Log, overrides: Overrides = {}): Promise<Store> {
  const databaseUrl = config.database.kind === "url" ? config.database.url : await startOwnDatabase(config);
  const pool = createPool({
    url: databaseUrl,
    max: overrides.poolSize ?? 4,
    applicationName: "openclaw",
    onIdleError: (error) => log.warn({ error }, "database connection lost"),
  });
  const db = createDb(pool);
  return {
    config,
    secrets,
    clock: overrides.clock ?? systemClock,
    log,
    actor: overrides.actor ?? { name: config.actor },
    databaseUrl,
    pool,
    db,
    async reviveDatabase() {
      if (config.database.kind === "embedded") await startOwnDatabase(config);
    },
    // Kysely's destroy() does nothing before its first query, and an idle connection keeps the process for 10 s.
    close: () => pool.end(),
  };
}

/** Loaded when needed, as all that few commands use. */
async function startOwnDatabase({ dataDir }: Config): Promise<string> {
  const { startEmbeddedPostgres } = await import("./platform/embedded-postgres.ts");
  return (await startEmbeddedPostgres({ dataDir })).url;
}

/** Builds every dependency in order; `close` releases them in reverse. Runtimes are not stopped by it. */
export async function createContext(
  config: Config,
  secrets: Secrets,
  log: Log,
  overrides: Overrides = {},
): Promise<Context> {
  const store = await openStore(config, secrets, log, { poolSize: 16, ...overrides });
  const vault = await openVault(store);
  const runtimes = overrides.runtimes ?? (await openRuntimes(store, vault, { supervises: true }));
  const redis = await connectRedis(config, log);
  const pacer = overrides.pacer ?? (await openPacer({ ...store, redis }));
  const botApi = await openBotApi(config, secrets, pacer);
  return {
    ...store,
    vault,
    runtimes,
    botApi,
    pacer,
    redis,
    stripe: await openStripe(config, secrets),
    providers: await openProviders(store),
    async close() {
      redis?.disconnect();
      await botApi?.close();
      await runtimes.close();
      await store.close();
    },
  };
}

/** What commands about runtimes need, on top of `store`; they leave it to daemons to start again what died. */
export async function openFleet(store: Store): Promise<Store & Pick<Context, "vault" | "runtimes">> {
  const vault = await openVault(store);
  const runtimes = await openRuntimes(store, vault, { supervises: false });
  return {
    ...store,
    vault,
    runtimes,
    async close() {
      await runtimes.close();
      await store.close();
    },
  };
}

/** What commands that change connections need, on top of `store`. */
export async function openIntegrations(store: Store): Promise<Store & Pick<Context, "vault" | "providers">> {
  return { ...store, vault: await openVault(store), providers: await openProviders(store) };
}

/** What is outside, for whoever looks whether it works; opened when it is asked for. Undefined: not configured. */
export function openOutside({ config, secrets }: Pick<Store, "config" | "secrets">) {
  const { telegramBotToken: token, stripeSecretKey: secretKey } = secrets;
  return {
    botApi: token === undefined ? undefined : () => openBotClient(config, token),
    stripe: secretKey === undefined ? undefined : () => openStripeApi(config, secretKey, LOOK),
  };
}

/** What can be looked at of where runtimes run. */
/** `readImage` tells which image sign-ups get. */
export async function listRuntimeChecks(
  config: Config,
  openIt: () => Promise<Store>,
  readImage: (store: Pick<Store, "db">) => Promise<string>,
): Promise<Check[]> {
  if (config.runtime.driver === "azure") {
    const { openAzureChecks } = await import("./adapters/runtime/azure/open-azure-driver.ts");
    const { azure } = config.runtime;
    return openAzureChecks({ azure, stamps: await readStamps(azure), readImage, credential: openCredential }, openIt);
  }
  const { localRuntimeChecks } = await import("./adapters/runtime/local/checks.ts");
  return localRuntimeChecks({ root: runtimesFolder(config), binary: config.runtime.binary });
}

/** The folder of everything that the local driver keeps. */
export function runtimesFolder(config: Config): string {
  return path.join(config.dataDir, "runtimes");
}

/** For a command beside the daemon: unlike a driver, it starts and supervises nothing. @throws ConfigError when the driver has none. */
export async function openBackups(config: Config): Promise<RuntimeBackups> {
  if (config.runtime.driver === "azure") {
    throw new ConfigError("backups_unsupported", [
      "Archives are made of runtimes on this machine only; what runtimes on Azure keep is backed up by snapshots of their stamp's share.",
    ]);
  }
  const { createLocalBackups } = await import("./adapters/runtime/local/local-backups.ts");
  return createLocalBackups({ root: runtimesFolder(config) });
}

/** What there is of backups in place of archives where runtimes run on Azure. @throws ConfigError when they run elsewhere. */
export async function openSnapshots(store: Store): Promise<RuntimeSnapshots> {
  if (store.config.runtime.driver !== "azure") {
    throw new ConfigError("snapshots_unsupported", ["Snapshots are taken of runtimes on Azure only."]);
  }
  const { azure } = store.config.runtime;
  const { openAzureSnapshots } = await import("./adapters/runtime/azure/open-azure-driver.ts");
  const stamps = await readStamps(azure);
  return openAzureSnapshots({ ...store, azure, stamps, credential: await openCredential() });
}

/** Of the environment and its file of providers. @throws ConfigError naming every mistake in it. */
export async function openProviders(
  { config, secrets, clock }: Pick<Store, "config" | "secrets" | "clock">,
  patience: Partial<Pick<typeof LOOK, "timeoutMs">> = {},
): Promise<Providers> {
  const { readProviders } = await import("./adapters/oauth/providers.ts");
  return readProviders({ config, secrets }, { clock, ...patience });
}

/** With further stamps, a tenant's secrets lie in the vault of its own. */
async function openVault({ config, secrets, db }: Store): Promise<Vault> {
  const opened = await openVaults({ config, secrets });
  const [[, only] = []] = opened;
  // Without stamps there is one for all.
  if (config.runtime.driver !== "azure" && only !== undefined) return only;
  const vaults = new Map(opened);
  return createStampVault(vaults, (tenantId) => findStampOf(db, tenantId));
}

/** By stamp; what is no tenant's lies in the first. */
export async function openVaults({ config, secrets }: Pick<Store, "config" | "secrets">): Promise<[StampId, Vault][]> {
  const first = "default" as StampId;
  if (config.vault.kind === "file") return [[first, createFileVault(fileVaultOf({ config, secrets }))]];
  const { url: own } = config.vault;
  const open = (url: string) => createAzureVault({ url, credential: openCredential });
  if (config.runtime.driver !== "azure") return [[first, open(own)]];
  const { azure } = config.runtime;
  const stamps = await readStamps(azure);
  return stamps.map(({ id, vaultUrl }) => [id, open(id === azure.stamp.id ? own : vaultUrl)]);
}

function fileVaultOf({ config, secrets }: Pick<Store, "config" | "secrets">) {
  return { folder: path.join(config.dataDir, "vault"), key: secrets.vaultKey };
}

/** Undefined: the vault looks after its keys itself. */
export function openKeyRotation({ config, secrets }: Pick<Store, "config" | "secrets">): RotateKey | undefined {
  if (config.vault.kind === "azure") return undefined;
  return async (options) => {
    const { rotateFileKey } = await import("./adapters/vault/rotate-file-key.ts");
    return rotateFileKey(fileVaultOf({ config, secrets }), options);
  };
}

/** As whoever the environment says: a managed identity, a workload's, or the operator who is logged in. */
async function openCredential(): Promise<TokenCredential> {
  const { DefaultAzureCredential } = await import("@azure/identity");
  return new DefaultAzureCredential();
}

async function openRuntimes(
  store: Store,
  vault: Vault,
  { supervises }: { supervises: boolean },
): Promise<RuntimeDriver> {
  const { config, log } = store;
  if (config.runtime.driver === "azure") return openAzureRuntimes(store, config.runtime.azure);
  const { createLocalDriver } = await import("./adapters/runtime/local/local-driver.ts");
  return createLocalDriver({ root: runtimesFolder(config), binary: config.runtime.binary, vault, log, supervises });
}

async function openAzureRuntimes(store: Store, azure: AzureConfig): Promise<RuntimeDriver> {
  const { openAzureDriver } = await import("./adapters/runtime/azure/open-azure-driver.ts");
  const stamps = await readStamps(azure);
  return openAzureDriver({ ...store, azure, stamps, credential: await openCredential() });
}

async function openBotApi(config: Config, secrets: Secrets, pacer: Pacer): Promise<BotApi | undefined> {
  const { telegramBotToken: token } = secrets;
  return token === undefined ? undefined : openBotClient(config, token, pacer);
}

/** Only who sends messages needs a pacer. */
async function openBotClient(config: Config, token: string, pacer?: Pacer): Promise<BotApi> {
  const { createBotApi } = await import("./adapters/telegram/bot-api.ts");
  return createBotApi({ apiRoot: config.telegram.apiRoot, token, ...(pacer === undefined ? {} : { pacer }) });
}

async function openPacer({ config, secrets, pool, log, redis }: Store & Pick<Context, "redis">): Promise<Pacer> {
  const { openSlots } = await import("./adapters/telegram/shared-slots.ts");
  const { createPacer } = await import("./adapters/telegram/pacer.ts");
  const countDaemons = createDaemonCount(pool);
  const slots = openSlots({ redis, botId: Number.parseInt(secrets.telegramBotToken ?? "0", 10), countDaemons, log });
  return createPacer({ slots, sendsPerSecond: config.telegram.sendsPerSecond, divisor: countDaemons });
}

async function openStripe(config: Config, secrets: Secrets): Promise<StripeApi | undefined> {
  const { stripeSecretKey: secretKey } = secrets;
  return secretKey === undefined ? undefined : openStripeApi(config, secretKey);
}

/** For a look that somebody waits for. */
export const LOOK = { timeoutMs: 8_000, retries: 0 };

async function openStripeApi(
  { stripe }: Config,
  secretKey: string,
  patience: Partial<typeof LOOK> = {},
): Promise<StripeApi> {
  const { createStripeApi } = await import("./adapters/stripe/stripe-api.ts");
  return createStripeApi({ secretKey, apiBase: stripe.apiBase, ...patience });
}

async function connectRedis(config: Config, log: Log): Promise<Redis | undefined> {
  if (config.redisUrl === undefined) return undefined;
  const { openRedis } = await import("./platform/redis.ts");
  return openRedis(config.redisUrl, log);
}
