import { readFileSync } from "node:fs";

/** The part of an OpenClaw configuration that the sandbox runtime heeds, secrets filled in. */
export type Settings = {
  name: string;
  stateDir: string;
  telegram: { apiRoot: string; botToken: string; webhookUrl: string; allowFrom: ReadonlySet<string> };
  listen: { host: string; port: number; path: string; secret: string };
  model: { api: "openai-completions" | "anthropic-messages"; baseUrl: string; apiKey: string; id: string } | undefined;
  /** Where the gateway tells of connected accounts, as the instructions for the chat say. */
  connections: { url: string; key: string } | undefined;
};

/** A configuration with which no start can succeed: the process exits with 78, like the real runtime. */
export class SettingsError extends Error {}

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads `OPENCLAW_CONFIG_PATH`. @throws SettingsError */
export function readSettings(env: Environment): Settings {
  const file = env["OPENCLAW_CONFIG_PATH"] ?? fail("OPENCLAW_CONFIG_PATH is not set");
  const config = parseConfig(file, env);
  const telegram = field(config, "channels", "telegram");
  return {
    name: textField(telegram, "name") ?? "unnamed",
    stateDir: env["OPENCLAW_STATE_DIR"] ?? fail("OPENCLAW_STATE_DIR is not set"),
    telegram: {
      apiRoot: (textField(telegram, "apiRoot") ?? "https://api.telegram.org").replace(/\/+$/, ""),
      botToken: text(telegram, "botToken"),
      webhookUrl: text(telegram, "webhookUrl"),
      allowFrom: allowedSenders(telegram),
    },
    listen: {
      host: textField(telegram, "webhookHost") ?? "127.0.0.1",
      port: Number(field(telegram, "webhookPort") ?? 8787),
      path: textField(telegram, "webhookPath") ?? "/telegram-webhook",
      secret: text(telegram, "webhookSecret"),
    },
    model: primaryModel(config),
    connections: connectionsOf(telegram, env),
  };
}

function parseConfig(file: string, env: Environment): unknown {
  try {
    return substitute(JSON.parse(readFileSync(file, "utf8")), env);
  } catch (error) {
    if (error instanceof SettingsError) throw error;
    throw new SettingsError(`${file} can't be read as JSON: ${String(error)}`, { cause: error });
  }
}

/** Replaces `${NAME}` in every string. The real runtime only warns about a missing variable; here it is an error (F95). */
export function substitute(value: unknown, env: Environment): unknown {
  if (typeof value === "string") {
    return value.replaceAll(
      /\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g,
      (_, name: string) => env[name] || fail(`the environment lacks ${name}`),
    );
  }
  if (Array.isArray(value)) return value.map((item) => substitute(item, env));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, substitute(inner, env)]));
}

function allowedSenders(telegram: unknown): ReadonlySet<string> {
  const allowFrom = field(telegram, "allowFrom");
  if (field(telegram, "dmPolicy") !== "allowlist" || !Array.isArray(allowFrom)) return new Set();
  return new Set(allowFrom.map(String));
}

function connectionsOf(telegram: unknown, env: Environment): Settings["connections"] {
  const [person = ""] = allowedSenders(telegram);
  const instructions = textField(field(telegram, "direct", person), "systemPrompt") ?? "";
  const [url] = /https?:\/\/\S+\/integrations(?!\S)/.exec(instructions) ?? [];
  const key = env["CP_MODEL_KEY"];
  return url === undefined || key === undefined ? undefined : { url, key };
}

function primaryModel(config: unknown): Settings["model"] {
  const reference = textField(field(config, "agents", "defaults", "model"), "primary");
  if (reference === undefined) return undefined;
  const slash = reference.indexOf("/");
  const provider = field(config, "models", "providers", reference.slice(0, slash));
  const api = text(provider, "api");
  if (api !== "openai-completions" && api !== "anthropic-messages")
    return fail(`models: the api "${api}" is not known`);
  const baseUrl = text(provider, "baseUrl").replace(/\/+$/, "");
  return { api, baseUrl, apiKey: text(provider, "apiKey"), id: reference.slice(slash + 1) };
}

/** The value at a path of keys; undefined where the path leaves objects. */
export function field(value: unknown, ...keys: string[]): unknown {
  return keys.reduce<unknown>(
    (inner, key) => (typeof inner === "object" && inner !== null && key in inner ? Reflect.get(inner, key) : undefined),
    value,
  );
}

/** The string at `key`; undefined when there is none or an empty one. */
export function textField(value: unknown, key: string): string | undefined {
  const found = field(value, key);
  return typeof found === "string" && found !== "" ? found : undefined;
}

function text(value: unknown, key: string): string {
  return textField(value, key) ?? fail(`"${key}" is missing from the configuration`);
}

function fail(problem: string): never {
  throw new SettingsError(problem);
}
