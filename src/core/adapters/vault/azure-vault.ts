import type { TokenCredential } from "@azure/identity";
import type { SecretClient } from "@azure/keyvault-secrets";
import { setTimeout as delay } from "node:timers/promises";
import { UpstreamError } from "../../platform/errors.ts";
import { checkSecretName, checkSecretValue, isVersion, type SecretVersion, type Vault } from "./vault.ts";

const PAGE = 25;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** Deletions and recoveries take seconds; a role that was just assigned takes minutes, which is for the caller to wait out. */
const PATIENCE_MS = 60_000;
const REQUEST_MS = 20_000;

/**
 * Secrets in an Azure Key Vault. A deleted secret can be had back for days, and its name is taken until then: `set` recovers it
 * and writes over it, whether or not the vault lets secrets be purged (F74).
 */
export function createAzureVault(options: { url: string; credential: () => Promise<TokenCredential> }): Vault {
  let opened: Promise<SecretClient> | undefined;

  /** Loaded with the first secret: most commands need none. */
  function client(): Promise<SecretClient> {
    opened ??= openClient(options.url, options.credential);
    return opened;
  }

  async function read(name: string, wanted?: string): Promise<SecretVersion | undefined> {
    try {
      const options = { ...timeLimit(), ...(wanted === undefined ? {} : { version: wanted }) };
      const { value, properties } = await (await client()).getSecret(name, options);
      const { version } = properties;
      return value === undefined || version === undefined ? undefined : { value, version };
    } catch (error) {
      if (statusOf(error) === 404) return undefined;
      throw explain(error, `The secret ${name} could not be read`);
    }
  }

  /** Has a deleted secret come back. One that others recover or delete at the moment is theirs to end. */
  async function recover(name: string): Promise<void> {
    try {
      const poller = await (await client()).beginRecoverDeletedSecret(name, timeLimit());
      poller.stopPolling();
    } catch (error) {
      if (![404, 409].includes(statusOf(error) ?? 0)) throw explain(error, `The secret ${name} could not be recovered`);
    }
  }

  return {
    get: async (name) => (await read(checkSecretName(name)))?.value,
    getNewest: async (name) => read(checkSecretName(name)),
    async getVersion(given, version) {
      const name = checkSecretName(given);
      return isVersion(version) ? (await read(name, version))?.value : undefined;
    },
    async set(given, value) {
      const name = checkSecretName(given);
      checkSecretValue(name, value);
      let written = "";
      await untilDone(async () => {
        try {
          const { properties } = await (await client()).setSecret(name, value, timeLimit());
          written = properties.version ?? "";
          return true;
        } catch (error) {
          if (statusOf(error) !== 409) throw explain(error, `The secret ${name} could not be written`);
          if (innerCode(error) === "ObjectIsDeletedButRecoverable") await recover(name);
          return false;
        }
      }, `the name of the secret ${name} is free`);
      return written;
    },
    async delete(given) {
      const name = checkSecretName(given);
      try {
        const poller = await (await client()).beginDeleteSecret(name, timeLimit());
        poller.stopPolling();
      } catch (error) {
        // Another may be at it.
        if (![404, 409].includes(statusOf(error) ?? 0)) throw explain(error, `The secret ${name} could not be deleted`);
      }
      await untilDone(async () => (await read(name)) === undefined, `the secret ${name} is gone`);
    },
    async list(prefix) {
      const names: string[] = [];
      try {
        const pages = (await client()).listPropertiesOfSecrets(timeLimit()).byPage({ maxPageSize: PAGE });
        for await (const page of pages) for (const { name } of page) names.push(name.toLowerCase());
      } catch (error) {
        throw explain(error, "The names of secrets could not be listed");
      }
      return names.filter((name) => name.startsWith(prefix.toLowerCase())).toSorted();
    },
  };
}

async function openClient(url: string, credential: () => Promise<TokenCredential>): Promise<SecretClient> {
  const { SecretClient: Client } = await import("@azure/keyvault-secrets");
  return new Client(url, await credential(), {
    // The audience of a token must belong to the vault's domain, but for a server of somebody's own.
    disableChallengeResourceVerification: !/\.vault(\.[a-z-]+)+$/.test(new URL(url).hostname),
  });
}

/** For a call with its repetitions. The SDK's own time limit would keep the process alive until it is over. */
function timeLimit(): { abortSignal: AbortSignal } {
  return { abortSignal: AbortSignal.timeout(REQUEST_MS) };
}

async function untilDone(tryOnce: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (let pauseMs = FIRST_PAUSE_MS; !(await tryOnce()); pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    if (performance.now() > deadline) {
      throw new UpstreamError("vault_busy", `It takes Key Vault longer than a minute until ${what}.`, {
        service: "key-vault",
        retryable: true,
      });
    }
    await delay(pauseMs);
  }
}

function statusOf(error: unknown): number | undefined {
  return error instanceof Error && "statusCode" in error && typeof error.statusCode === "number"
    ? error.statusCode
    : undefined;
}

/** Why it is a conflict, as the body's inner error says. */
function innerCode(error: unknown): string | undefined {
  // As the SDK names it; the body has it in lower case.
  const code = field(field(field(field(error, "details"), "error"), "innerError"), "code");
  return typeof code === "string" ? code : undefined;
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

/** In our words: the SDK's errors hold requests with their headers. */
function explain(error: unknown, what: string): UpstreamError {
  const status = statusOf(error);
  const isRefused = status === 401 || status === 403;
  const why = isRefused
    ? "this identity may not do that in the vault, or may not yet: roles take minutes to come into force"
    : status === undefined
      ? "Key Vault can't be reached, or there is no identity to ask with"
      : `Key Vault answered with status ${status}`;
  return new UpstreamError(isRefused ? "vault_forbidden" : "vault_failed", `${what}: ${why}.`, {
    service: "key-vault",
    retryable: true,
    cause: new Error(error instanceof Error ? error.message : String(error)),
  });
}
