import { randomBytes } from "node:crypto";
import { ConfigError, OpenClawError, UpstreamError } from "../../platform/errors.ts";
import { seal, unseal } from "./sealed-secret.ts";
import { createVaultFiles, type VaultFiles } from "./vault-files.ts";
import { createGivenKeys, createKeyFiles, type KeyFiles, type VaultKey, type VaultKeys } from "./vault-keys.ts";
import { checkSecretName, checkSecretValue, isVersion, type SecretVersion, type Vault } from "./vault.ts";

export type FileVaultOptions = {
  folder: string;
  /** As in OPENCLAW_VAULT_KEY: one, or several separated by commas. Undefined: keys lie in the folder. */
  key: string | undefined;
};

/** So many versions of a secret are kept, and those of the last minutes, which their writers may be about to make the newest. */
const VERSIONS = 8;
const WRITER_MS = 10 * 60_000;
/** Somebody would have to delete the name, or change the key, as often. */
const MAX_TRIES = 20;

/**
 * Secrets as files below `folder`, each sealed and bound to its name and version, on disk when `set` is done. Several processes may
 * use it at once, also while the key is changed (see `rotateFileKey`).
 */
export function createFileVault(options: FileVaultOptions): Vault {
  const { files, keys } = openFolder(options);

  async function getNewest(given: string): Promise<SecretVersion | undefined> {
    const name = checkSecretName(given);
    await files.prepare();
    return (await readSealed(keys, name, () => files.readNewest(name)))?.secret;
  }

  async function tryToSet(name: string, value: string): Promise<string | undefined> {
    await files.makeRoom(name);
    const before = await files.listVersions(name);
    const version = nextVersion(before.at(-1));
    if (!(await writeSealed(files, keys, name, { value, version }))) return undefined;
    await files.syncVersions(name);
    if (!(await files.pointTo(name, version))) return undefined;
    for (const old of before.slice(0, -VERSIONS + 1))
      if (timeOf(old) < Date.now() - WRITER_MS) await files.removeVersion(name, old);
    return version;
  }

  async function getVersion(given: string, version: string): Promise<string | undefined> {
    const name = checkSecretName(given);
    if (!isVersion(version)) return undefined;
    await files.prepare();
    const read = await readSealed(keys, name, () => files.readVersion(name, version));
    const found = read === undefined ? await getNewest(name) : read.secret;
    return found?.version === version ? found.value : undefined;
  }

  async function set(given: string, value: string): Promise<string> {
    const name = checkSecretName(given);
    checkSecretValue(name, value);
    await files.prepare();
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      const version = await tryToSet(name, value);
      if (version !== undefined) return version;
    }
    throw new Error(`the secret ${name} is deleted as often as it is written`);
  }

  async function remove(given: string): Promise<void> {
    const name = checkSecretName(given);
    await files.prepare();
    await files.remove(name);
  }

  async function list(prefix: string): Promise<string[]> {
    await files.prepare();
    return (await files.listNames()).filter((name) => name.startsWith(prefix.toLowerCase()));
  }

  return {
    get: async (name) => (await inOurWords(getNewest(name)))?.value,
    getNewest: (name) => inOurWords(getNewest(name)),
    getVersion: (name, version) => inOurWords(getVersion(name, version)),
    set: (name, value) => inOurWords(set(name, value)),
    delete: (name) => inOurWords(remove(name)),
    list: (prefix) => inOurWords(list(prefix)),
  };
}
/** A disk that is full, or gone, is an outside trouble as any other vault's. */
async function inOurWords<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    // To translate.
    if (error instanceof OpenClawError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    const options = { service: "vault", retryable: true, cause: error };
    throw new UpstreamError("vault_failed", `The file vault could not be used: ${why}.`, options);
  }
}

/** `keyFiles`: the keys once more where they lie in the folder, and can be changed. */
export function openFolder({ folder, key }: FileVaultOptions): {
  files: VaultFiles;
  keys: VaultKeys;
  keyFiles: KeyFiles | undefined;
} {
  const files = createVaultFiles(folder);
  const keyFiles = key === undefined ? createKeyFiles(folder, files.isUsed) : undefined;
  return { files, keyFiles, keys: keyFiles ?? createGivenKeys(key ?? "") };
}

/** @throws ConfigError when none of the keys opens it. */
export async function readSealed(
  keys: VaultKeys,
  name: string,
  read: () => Promise<Buffer | undefined>,
): Promise<{ secret: SecretVersion; key: VaultKey } | undefined> {
  let tried = "";
  for (;;) {
    const list = await keys.list();
    const file = await read();
    if (file === undefined) return undefined;
    for (const key of list) {
      const secret = unseal(key.bytes, name, file);
      if (secret !== undefined) return { secret, key };
    }
    const numbers = list.map(({ number }) => number).join();
    if (numbers === tried) throw wrongKey(name);
    // It may have been sealed again with a key that came after this look at them.
    tried = numbers;
  }
}

/** @returns false when nothing was written. */
export function writeSealed(files: VaultFiles, keys: VaultKeys, name: string, secret: SecretVersion): Promise<boolean> {
  return files.writeVersion(name, secret.version, async () => seal((await keys.list())[0].bytes, name, secret));
}

/** Sorts behind the one before, also when the clock was set back. */
function nextVersion(before: string | undefined): string {
  const time = Math.max(Date.now(), before === undefined ? 0 : timeOf(before) + 1);
  return time.toString(16).padStart(12, "0") + randomBytes(10).toString("hex");
}

function timeOf(version: string): number {
  return Number.parseInt(version.slice(0, 12), 16);
}

function wrongKey(name: string): ConfigError {
  return new ConfigError("vault_key_wrong", [
    `The secret ${name} can't be opened: it was sealed with another key or is damaged. Set OPENCLAW_VAULT_KEY to the key in use.`,
  ]);
}
