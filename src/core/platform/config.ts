import { readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import path from "node:path";
import { parseEnv } from "node:util";
import { ConfigError } from "./errors.ts";
import type { StampId } from "./ids.ts";
import type { LogLevel } from "./log.ts";

/** Where one share of the runtimes lives on Azure, and what they have there in common. */
export type Stamp = Readonly<{
  id: StampId;
  subscriptionId: string;
  resourceGroup: string;
  /** Such as `westeurope`. */
  location: string;
  /** Resource id of the Container Apps environment. */
  environmentId: string;
  /** Host of the container registry; undefined: images are public. */
  acrServer: string | undefined;
  vaultName: string;
  vaultUrl: string;
  storageAccount: string;
  /** Who reaches its runtimes: apps of the same environment, or whoever is on the environment's network. */
  reachableFrom: "environment" | "network";
  /** How many cores its environment may use; undefined: what Azure grants by default. */
  coresQuota: number | undefined;
}>;

export type AzureConfig = Readonly<{
  /** The stamp `default`. */
  stamp: Stamp;
  /** Further stamps, as `readStamps` reads them; undefined: none. */
  stampsFile: string | undefined;
  armCallsPerMinute: number;
  /** Without a trailing slash. */
  resourceManagerEndpoint: string;
}>;

/** Host and port of a listener; port 0 picks a free one. */
export type ListenAddress = { host: string; port: number };

export type Config = Readonly<{
  dataDir: string;
  database: { kind: "embedded" } | { kind: "url"; url: string };
  shadowDatabaseUrl: string | undefined;
  redisUrl: string | undefined;
  http: {
    publicListen: ListenAddress;
    internalListen: ListenAddress;
    /** Where the outside reaches the public listener; undefined: wherever it listens. */
    publicUrl: string | undefined;
    /** Where runtimes reach the internal listener; undefined: wherever it listens. */
    internalUrl: string | undefined;
    metricsToken: string | undefined;
  };
  runtime: {
    image: string;
    modelsByTier: { basic: readonly string[]; plus: readonly string[] };
    /** Whether anybody said so; otherwise both are what this version comes with. */
    isNamed: boolean;
  } & (
    | {
        driver: "local";
        /** Path of a real OpenClaw; undefined: the bundled sandbox runtime. */
        binary: string | undefined;
      }
    | { driver: "azure"; azure: AzureConfig }
  );
  vault: { kind: "file" } | { kind: "azure"; url: string };
  tenancy: {
    trialDays: { basic: number; plus: number };
    retentionDays: number;
    idleMinutes: number;
    signupUrl: string | undefined;
  };
  stripe: { priceBasic: string | undefined; pricePlus: string | undefined; apiBase: string | undefined };
  telegram: { apiRoot: string; sendsPerSecond: number };
  router: { rateLimitPerMinute: number };
  models: {
    anthropicBaseUrl: string;
    openaiBaseUrl: string;
    /** Prices beside and over the built-in ones; undefined: none. */
    pricesFile: string | undefined;
  };
  /** OAuth providers beside and over the built-in ones; undefined: none. */
  providersFile: string | undefined;
  logLevel: LogLevel;
  /** Who is acting, for the audit log. */
  actor: string;
}>;

/** Kept apart from the rest, so that printing a Config can't print a secret. */
export type Secrets = Readonly<{
  vaultKey: string | undefined;
  /** What backups are encrypted with. */
  backupPassphrase: string | undefined;
  stripeSecretKey: string | undefined;
  stripeWebhookSecrets: readonly string[];
  telegramBotToken: string | undefined;
  telegramWebhookSecret: string | undefined;
  anthropicApiKey: string | undefined;
  openaiApiKey: string | undefined;
  /** OAuth clients by name: `google` is that of `GOOGLE_CLIENT_ID` and `GOOGLE_CLIENT_SECRET`. */
  oauthClients: Readonly<Record<string, OAuthClientSecrets>>;
}>;

/** A client without a secret is a public one. */
export type OAuthClientSecrets = Readonly<{ id: string; secret: string | undefined }>;

/** The variables that tell id and secret of an OAuth client: `google` has `GOOGLE_CLIENT_ID` and `GOOGLE_CLIENT_SECRET`. */
export function oauthClientVariables(client: string): [id: string, secret: string] {
  const prefix = client.toUpperCase().replaceAll("-", "_");
  return [`${prefix}_CLIENT_ID`, `${prefix}_CLIENT_SECRET`];
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** The process's environment over the `.env` of `folder`; what is set in the environment wins. */
export function readEnvironment(folder: string = process.cwd()): Environment {
  return { ...readDotEnv(path.join(folder, ".env")), ...process.env };
}

/** The process's environment alone, for a child that must not see the `.env` of this folder. */
export function inheritedEnvironment(): Environment {
  return { ...process.env };
}

function readDotEnv(file: string): Environment {
  try {
    return parseEnv(readFileSync(file, "utf8"));
  } catch (error) {
    // No .env is the usual case; one that can't be read must not be passed over.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new ConfigError("dotenv_unreadable", [`${file} can't be read: ${String(error)}`], { cause: error });
  }
}

/**
 * The configuration that `env` describes.
 * @throws ConfigError holding every problem at once, each with the variable's name and an example.
 */
export function loadConfig(env: Environment, folder: string = process.cwd()): { config: Config; secrets: Secrets } {
  const read = new Reader(env);
  const driver = read.choice("OPENCLAW_RUNTIME", ["local", "azure"], env["AZURE_SUBSCRIPTION_ID"] ? "azure" : "local");
  const databaseUrl = read.url("DATABASE_URL", ["postgres:", "postgresql:"], "postgres://user@db.example/openclaw");
  const binary = read.text("OPENCLAW_RUNTIME_BIN");
  const pricesFile = read.text("OPENCLAW_PRICES_FILE");
  const providersFile = read.text("OPENCLAW_PROVIDERS_FILE");
  const config: Config = {
    dataDir: path.resolve(folder, read.text("OPENCLAW_DATA_DIR") ?? ".openclaw"),
    database: databaseUrl === undefined ? { kind: "embedded" } : { kind: "url", url: databaseUrl },
    shadowDatabaseUrl: read.url(
      "OPENCLAW_SHADOW_DATABASE_URL",
      ["postgres:", "postgresql:"],
      "postgres://user@db.example/shadow",
    ),
    redisUrl: read.url("REDIS_URL", ["redis:", "rediss:"], "redis://cache.example:6379"),
    http: {
      publicListen: read.listen("OPENCLAW_PUBLIC_LISTEN", "127.0.0.1:8080"),
      internalListen: read.listen("OPENCLAW_INTERNAL_LISTEN", "127.0.0.1:9090"),
      publicUrl: read.publicUrl("OPENCLAW_PUBLIC_URL", "https://bot.example.com"),
      internalUrl: read.baseUrl("OPENCLAW_INTERNAL_URL", "http://gateway.internal:9090"),
      metricsToken: read.text("OPENCLAW_METRICS_TOKEN"),
    },
    runtime: {
      image: read.text("OPENCLAW_RUNTIME_IMAGE") ?? "ghcr.io/openclaw/openclaw:2026.9.6",
      modelsByTier: {
        basic: read.list("OPENCLAW_MODEL_BASIC", ["claude-haiku-4-5"]),
        plus: read.list("OPENCLAW_MODEL_PLUS", ["claude-sonnet-4-5", "claude-haiku-4-5"]),
      },
      isNamed: ["OPENCLAW_RUNTIME_IMAGE", "OPENCLAW_MODEL_BASIC", "OPENCLAW_MODEL_PLUS"].some(
        (name) => read.text(name) !== undefined,
      ),
      ...(driver === "azure"
        ? { driver, azure: read.azure(folder) }
        : { driver, binary: binary === undefined ? undefined : path.resolve(folder, binary) }),
    },
    vault: read.vault(driver),
    tenancy: {
      trialDays: read.trialDays("OPENCLAW_TRIAL_DAYS"),
      retentionDays: read.integer("OPENCLAW_RETENTION_DAYS", 30, { min: 0, max: 3650 }),
      idleMinutes: read.integer("OPENCLAW_IDLE_MINUTES", 120, { min: 1, max: 525_600 }),
      signupUrl: read.url("OPENCLAW_SIGNUP_URL", ["https:", "http:"], "https://example.com/signup"),
    },
    stripe: {
      priceBasic: read.text("STRIPE_PRICE_BASIC"),
      pricePlus: read.text("STRIPE_PRICE_PLUS"),
      apiBase: read.baseUrl("STRIPE_API_BASE", "http://127.0.0.1:12111"),
    },
    telegram: {
      apiRoot: read.baseUrl("TELEGRAM_API_ROOT", "http://127.0.0.1:8081") ?? "https://api.telegram.org",
      sendsPerSecond: read.integer("TELEGRAM_SENDS_PER_SECOND", 30, { min: 1, max: 1_000 }),
    },
    router: { rateLimitPerMinute: read.integer("ROUTER_RATE_LIMIT_PER_MINUTE", 30, { min: 0, max: 100_000 }) },
    models: {
      anthropicBaseUrl: read.baseUrl("ANTHROPIC_BASE_URL", "https://api.anthropic.com") ?? "https://api.anthropic.com",
      openaiBaseUrl: read.baseUrl("OPENAI_BASE_URL", "https://api.openai.com") ?? "https://api.openai.com",
      pricesFile: pricesFile === undefined ? undefined : path.resolve(folder, pricesFile),
    },
    providersFile: providersFile === undefined ? undefined : path.resolve(folder, providersFile),
    logLevel: read.choice("OPENCLAW_LOG_LEVEL", ["debug", "info", "warn", "error"], "info"),
    actor: read.text("OPENCLAW_ACTOR") ?? `${userName()}@${hostname()}`,
  };
  const secrets: Secrets = {
    vaultKey: read.text("OPENCLAW_VAULT_KEY"),
    backupPassphrase: read.matching(
      "OPENCLAW_BACKUP_PASSPHRASE",
      PASSPHRASE,
      "12 characters or more, e.g. what this prints: openssl rand -base64 32",
    ),
    stripeSecretKey: read.matching("STRIPE_SECRET_KEY", /^(sk|rk)_/, "sk_live_…"),
    stripeWebhookSecrets: read.list("STRIPE_WEBHOOK_SECRET", []),
    telegramBotToken: read.matching(
      "TELEGRAM_BOT_TOKEN",
      /^[0-9]{1,15}:[A-Za-z0-9_-]{10,}$/,
      "123456789:AAE… (as BotFather gives it)",
    ),
    telegramWebhookSecret: read.matching(
      "TELEGRAM_WEBHOOK_SECRET",
      /^[A-Za-z0-9_-]{1,256}$/,
      "1 to 256 of A-Z a-z 0-9 _ -",
    ),
    anthropicApiKey: read.text("ANTHROPIC_API_KEY"),
    openaiApiKey: read.text("OPENAI_API_KEY"),
    oauthClients: read.oauthClients(),
  };
  if (read.problems.length > 0) throw new ConfigError("config_invalid", read.problems);
  return { config: deepFreeze(config), secrets: deepFreeze(secrets) };
}

/** A container may run as a user that has no name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_SYSTEM_ERROR") throw error;
    return `uid-${process.getuid?.()}`;
  }
}

/** Reads single variables; a problem is noted and a harmless value returned, so that all problems come out at once. */
class Reader {
  readonly problems: string[] = [];
  readonly #env: Environment;

  constructor(env: Environment) {
    this.#env = env;
  }

  /** An empty variable counts as unset: compose files and CI pass them that way. */
  text(name: string): string | undefined {
    const value = this.#env[name]?.trim();
    return value === "" ? undefined : value;
  }

  list(name: string, fallback: readonly string[]): readonly string[] {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const items = value.split(",").map((item) => item.trim());
    if (items.includes("")) this.#problem(name, "has an empty item", "one,two");
    return items;
  }

  choice<const T extends string>(name: string, options: readonly T[], fallback: T): T {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const found = options.find((option) => option === value);
    if (found === undefined) this.#problem(name, `is "${value}"`, options.join(" or "));
    return found ?? fallback;
  }

  integer(name: string, fallback: number, { min, max }: { min: number; max: number }): number {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const number = Number(value);
    if (/^[0-9]+$/.test(value) && number >= min && number <= max) return number;
    this.#problem(name, `is "${value}"`, `a whole number from ${min} to ${max}, e.g. ${fallback}`);
    return fallback;
  }

  /** For every tier, such as `7`, or for each, such as `basic=7,plus=14`; a tier that is left out has none. */
  trialDays(name: string): { basic: number; plus: number } {
    const value = this.text(name) ?? "0";
    const days = { basic: 0, plus: 0 };
    for (const item of value.split(",")) {
      const [, tier, digits] = /^(?:(basic|plus)\s*=\s*)?([0-9]{1,3})$/.exec(item.trim()) ?? [];
      if (digits === undefined || Number(digits) > 365 || (tier === undefined && value.includes(","))) {
        this.#problem(name, `is "${value}"`, "days from 0 to 365, e.g. 7, or basic=7,plus=14");
        return days;
      }
      for (const one of ["basic", "plus"] as const) if (tier === undefined || tier === one) days[one] = Number(digits);
    }
    return days;
  }

  /** Every `<NAME>_CLIENT_ID` with its secret, but for Azure's, which is no OAuth client of ours. */
  oauthClients(): Record<string, OAuthClientSecrets> {
    const clients: Record<string, OAuthClientSecrets> = {};
    for (const variable of Object.keys(this.#env)) {
      const [, name] = /^([A-Z][A-Z0-9_]*)_CLIENT_(?:ID|SECRET)$/.exec(variable) ?? [];
      if (name === undefined || name === "AZURE") continue;
      const id = this.text(`${name}_CLIENT_ID`);
      const secret = this.text(`${name}_CLIENT_SECRET`);
      if (id !== undefined) clients[name.toLowerCase().replaceAll("_", "-")] = { id, secret };
    }
    // Others may be public, or nothing to do with us.
    for (const client of ["google", "sautai"]) {
      const variables = oauthClientVariables(client);
      const isMissing = (variable: string) => this.text(variable) === undefined;
      const [missing, ...rest] = variables.filter(isMissing);
      if (missing === undefined || rest.length > 0) continue;
      const other = variables.find((variable) => variable !== missing);
      this.#problem(missing, `is not set, and ${other} is`, "what the provider's console shows");
    }
    return clients;
  }

  vault(driver: "local" | "azure"): Config["vault"] {
    const kind = this.choice("OPENCLAW_VAULT", ["file", "azure"], driver === "azure" ? "azure" : "file");
    if (kind === "file") return { kind };
    const own = this.url("AZURE_KEY_VAULT_URL", ["https:"], "https://my-vault.vault.azure.net")?.replace(/\/+$/, "");
    const name = this.matching("AZURE_KEY_VAULT_NAME", /^[a-z][a-z0-9-]{1,22}[a-z0-9]$/i, "my-vault");
    if (own !== undefined) return { kind, url: own };
    if (name === undefined)
      this.#problem("AZURE_KEY_VAULT_NAME", "is not set, and secrets are to lie in a Key Vault", "my-vault");
    return { kind, url: `https://${name}.vault.azure.net` };
  }

  azure(folder: string): AzureConfig {
    const environmentId = this.required(
      "AZURE_CONTAINER_ENV_ID",
      /^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/Microsoft\.App\/managedEnvironments\/[^/]+$/i,
      "/subscriptions/…/resourceGroups/…/providers/Microsoft.App/managedEnvironments/my-environment",
    );
    const vaultUrl = this.url("AZURE_KEY_VAULT_URL", ["https:"], "https://my-vault.vault.azure.net")?.replace(
      /\/+$/,
      "",
    );
    const vaultName = this.text("AZURE_KEY_VAULT_NAME") ?? (URL.parse(vaultUrl ?? "")?.hostname.split(".")[0] || "");
    if (vaultName === "")
      this.#problem("AZURE_KEY_VAULT_NAME", "is not set, and runtimes on Azure read their secrets there", "my-vault");
    const stampsFile = this.text("OPENCLAW_STAMPS_FILE");
    const cloud = "https://management.azure.com";
    return {
      stamp: {
        id: "default" as StampId,
        subscriptionId: this.required("AZURE_SUBSCRIPTION_ID", UUID, "12345678-1234-1234-1234-123456789abc"),
        resourceGroup: this.required("AZURE_RESOURCE_GROUP", /^[\w.()-]{1,90}$/, "openclaw"),
        location: this.required("AZURE_LOCATION", /^[a-z][a-z0-9]+$/, "westeurope"),
        environmentId,
        acrServer: this.matching("AZURE_ACR_SERVER", /^[a-z0-9][a-z0-9.-]+(:\d+)?$/i, "myregistry.azurecr.io"),
        vaultName,
        vaultUrl: vaultUrl ?? `https://${vaultName}.vault.azure.net`,
        storageAccount: this.required("AZURE_STORAGE_ACCOUNT", /^[a-z0-9]{3,24}$/, "openclawstate"),
        reachableFrom: "environment",
        coresQuota: undefined,
      },
      stampsFile: stampsFile === undefined ? undefined : path.resolve(folder, stampsFile),
      armCallsPerMinute: this.integer("AZURE_ARM_CALLS_PER_MINUTE", 60, { min: 6, max: 1_000_000 }),
      resourceManagerEndpoint:
        this.url("AZURE_RESOURCE_MANAGER_ENDPOINT", ["https:"], cloud)?.replace(/\/+$/, "") ?? cloud,
    };
  }

  /** A variable that runtimes on Azure can't do without. */
  required(name: string, pattern: RegExp, example: string): string {
    const value = this.text(name);
    if (value === undefined) this.#problem(name, "is not set, and runtimes are to run on Azure", example);
    else if (!pattern.test(value)) this.#problem(name, `is "${value}"`, example);
    return value ?? "";
  }

  /** The message must not hold the value: it is a secret. */
  matching(name: string, pattern: RegExp, example: string): string | undefined {
    const value = this.text(name);
    if (value !== undefined && !pattern.test(value)) this.#problem(name, "doesn't look like one", example);
    return value;
  }

  url(name: string, protocols: readonly string[], example: string): string | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    // The value may hold a password, so the message leaves it out.
    if (!protocols.includes(URL.parse(value)?.protocol ?? "")) {
      this.#problem(name, `is not a ${protocols.map((protocol) => protocol.slice(0, -1)).join(" or ")} URL`, example);
    }
    return value;
  }

  /** An http(s) URL without a trailing slash, ready to be followed by a path. */
  baseUrl(name: string, example: string): string | undefined {
    const value = this.url(name, ["http:", "https:"], example)?.replace(/\/+$/, "");
    if (value !== undefined && /[?#]/.test(value))
      this.#problem(name, "has a ? or #, which no path can follow", example);
    return value;
  }

  /** The same for people to be sent to: links must not hold what opens anything. */
  publicUrl(name: string, example: string): string | undefined {
    const value = this.baseUrl(name, example);
    const { username, password } = URL.parse(value ?? "") ?? { username: "", password: "" };
    if (username !== "" || password !== "") this.#problem(name, "has a user or a password in it", example);
    return value;
  }

  listen(name: string, fallback: string): ListenAddress {
    const value = this.text(name) ?? fallback;
    const match = /^(\[[0-9a-f:.]+\]|[^:\s]+):([0-9]{1,5})$/i.exec(value);
    const port = Number(match?.[2]);
    if (match?.[1] === undefined || port > 65_535) {
      this.#problem(name, `is "${value}"`, `host:port, e.g. ${fallback}`);
      return { host: "127.0.0.1", port: 0 };
    }
    return { host: match[1].replace(/^\[|\]$/g, ""), port };
  }

  #problem(name: string, what: string, example: string): void {
    this.problems.push(`${name} ${what}; expected ${example}`);
  }
}

/** What can't be guessed in a lifetime, given what each guess costs. */
export const PASSPHRASE = /^.{12,1000}$/u;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === "object" && inner !== null) deepFreeze(inner);
  return Object.freeze(value);
}
