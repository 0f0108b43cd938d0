import type { TokenCredential } from "@azure/identity";
import type { SecretClient } from "@azure/keyvault-secrets";
import { setTimeout as delay } from "node:timers/promises";
import { busy, createKeyVaultCalls, explain, innerCode, statusOf } from "./key-vault-calls.ts";
import { checkSecretName, checkSecretValue, isVersion, type SecretVersion, type Vault } from "./vault.ts";
import { createVersionCache } from "./version-cache.ts";

const PAGE = 25;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** Deletions and recoveries take seconds; a role that was just assigned takes minutes, which is for the caller to wait out. */
const PATIENCE_MS = 60_000;
const CALL_MS = 20_000;
/** For all names: a vault gives 25 at a time, one after the other, and can't be asked for some of them. */
const LIST_MS = 120_000;
/** A few kilobytes each. Longer than that, nothing of what others delete stays in memory. */
const CACHE = { entries: 5_000, lifetimeMs: 10 * 60_000 };

/**
 * Secrets in an Azure Key Vault. A deleted secret can be had back for days, and its name is taken until then: `set` recovers it
 * and writes over it, whether or not the vault lets secrets be purged (F74). Versions that were read are kept in memory.
 */
export function createAzureVault(options: {
  url: string;
  credential: () => Promise<TokenCredential>;
  /** For each call with its repetitions. */
  patienceMs?: number;
}): Vault {
  const call = createKeyVaultCalls({ patienceMs: options.patienceMs ?? CALL_MS });
  const cache = createVersionCache(CACHE);
  let opened: Promise<SecretClient> | undefined;

  /** Loaded with the first secret: most commands need none. */
  function client(): Promise<SecretClient> {
    opened ??= openClient(options.url, options.credential);
    return opened;
  }

  async function read(name: string, wanted?: string): Promise<SecretVersion | undefined> {
    try {
      return await call("other", async (limit) => {
        const version = wanted === undefined ? {} : { version: wanted };
        const { value, properties } = await (await client()).getSecret(name, { ...limit, ...version });
        return value === undefined || properties.version === undefined
          ? undefined
          : { value, version: properties.version };
      });
    } catch (error) {
      if (statusOf(error) === 404) return undefined;
      throw explain(error, `The secret ${name} could not be read`);
    }
  }

  /** The version that was written; undefined while the name is taken by what was deleted. */
  async function write(name: string, value: string): Promise<string | undefined> {
    try {
      const { properties } = await call("write", async (limit) => (await client()).setSecret(name, value, limit));
      return properties.version ?? "";
    } catch (error) {
      if (statusOf(error) !== 409) throw explain(error, `The secret ${name} could not be written`);
      if (innerCode(error) === "ObjectIsDeletedButRecoverable") await recover(name);
      return undefined;
    }
  }

  /** Has a deleted secret come back. One that others recover or delete at the moment is theirs to end. */
  async function recover(name: string): Promise<void> {
    try {
      await call("other", async (limit) =>
        (await (await client()).beginRecoverDeletedSecret(name, limit)).stopPolling(),
      );
    } catch (error) {
      if (![404, 409].includes(statusOf(error) ?? 0)) throw explain(error, `The secret ${name} could not be recovered`);
    }
  }

  function listAll(): Promise<string[]> {
    return call(
      "other",
      async (limit) => {
        const names: string[] = [];
        const pages = (await client()).listPropertiesOfSecrets(limit).byPage({ maxPageSize: PAGE });
        for await (const page of pages) for (const { name } of page) names.push(name.toLowerCase());
        return names;
      },
      LIST_MS,
    );
  }

  return {
    get: async (name) => (await read(checkSecretName(name)))?.value,
    getNewest: async (name) => read(checkSecretName(name)),
    async getVersion(given, version) {
      const name = checkSecretName(given);
      if (!isVersion(version)) return undefined;
      return cache.read(name, version, async () => (await read(name, version))?.value);
    },
    async set(given, value) {
      const name = checkSecretName(given);
      checkSecretValue(name, value);
      return untilDone(() => write(name, value), `the name of the secret ${name} is free`);
    },
    async delete(given) {
      const name = checkSecretName(given);
      try {
        await call("other", async (limit) => (await (await client()).beginDeleteSecret(name, limit)).stopPolling());
      } catch (error) {
        // Another may be at it.
        if (![404, 409].includes(statusOf(error) ?? 0)) throw explain(error, `The secret ${name} could not be deleted`);
      }
      await untilDone(
        async () => ((await read(name)) === undefined ? "gone" : undefined),
        `the secret ${name} is gone`,
      );
      cache.forget(name);
    },
    async list(prefix) {
      try {
        return (await listAll()).filter((name) => name.startsWith(prefix.toLowerCase())).toSorted();
      } catch (error) {
        throw explain(error, "The names of secrets could not be listed");
      }
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

async function untilDone<Result>(tryOnce: () => Promise<Result | undefined>, what: string): Promise<Result> {
  const deadline = performance.now() + PATIENCE_MS;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    const result = await tryOnce();
    if (result !== undefined) return result;
    if (performance.now() > deadline) throw busy(`takes longer than a minute until ${what}`);
    await delay(pauseMs);
  }
}
