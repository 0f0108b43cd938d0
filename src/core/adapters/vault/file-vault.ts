import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { chmod, link, mkdir, open, readdir, readFile, rename, rm, unlink } from "node:fs/promises";
import path from "node:path";
import { makeDataDir } from "../../platform/data-dir.ts";
import { ConfigError } from "../../platform/errors.ts";
import { checkSecretName, checkSecretValue, isVersion, type SecretVersion, type Vault } from "./vault.ts";

const IV_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
/** What a file begins with that names its version. */
const MAGIC = Buffer.from("openclaw\x01", "latin1");
const VERSION_BYTES = 16;

/** So many versions of a secret are kept. */
const VERSIONS = 8;

/**
 * Secrets as files below `folder`, each sealed with AES-256-GCM and bound to its name, written by rename so that a reader
 * sees the old or the new value, never half of one. A version is the same file under a second name. The key is `key`, else a 0600
 * file that is made on first use.
 */
export function createFileVault(options: { folder: string; key: string | undefined }): Vault {
  const secrets = path.join(options.folder, "secrets");
  const versions = path.join(options.folder, "versions");
  let ready: Promise<Buffer> | undefined;

  function unlock(): Promise<Buffer> {
    ready ??= prepare();
    return ready;
  }
  async function prepare(): Promise<Buffer> {
    await makeDataDir(path.dirname(options.folder));
    for (const folder of [secrets, versions]) await mkdir(folder, { recursive: true, mode: 0o700 });
    await chmod(options.folder, 0o700);
    return options.key === undefined ? readOrMakeKey(path.join(options.folder, "key")) : parseKey(options.key);
  }
  function fileOf(name: string): string {
    return path.join(secrets, checkSecretName(name));
  }

  async function read(name: string, file: string): Promise<SecretVersion | undefined> {
    const key = await unlock();
    const sealed = await readIfThere(file);
    return sealed === undefined ? undefined : unseal(key, name, sealed);
  }
  function getNewest(given: string): Promise<SecretVersion | undefined> {
    const name = checkSecretName(given);
    return read(name, fileOf(name));
  }
  function versionsOf(name: string): string {
    return path.join(versions, checkSecretName(name));
  }

  return {
    get: async (name) => (await getNewest(name))?.value,
    getNewest,
    async getVersion(given, version) {
      const name = checkSecretName(given);
      if (!isVersion(version)) return undefined;
      return (await read(name, path.join(versionsOf(name), version)))?.value;
    },
    async set(given, value) {
      const name = checkSecretName(given);
      const key = await unlock();
      const version = newVersion();
      await mkdir(versionsOf(name), { recursive: true, mode: 0o700 });
      const draft = await writeDraft(fileOf(name), seal(key, name, { value: checkSecretValue(name, value), version }));
      await link(draft, path.join(versionsOf(name), version));
      await rename(draft, fileOf(name));
      await prune(versionsOf(name));
      return version;
    },
    async delete(name) {
      await unlock();
      await rm(fileOf(name), { force: true });
      await rm(versionsOf(name), { recursive: true, force: true });
    },
    async list(prefix) {
      await unlock();
      const names = await readdir(secrets);
      return names.filter((name) => !name.endsWith(".tmp") && name.startsWith(prefix.toLowerCase())).toSorted();
    },
  };
}

/** Later ones sort behind earlier ones. */
function newVersion(): string {
  return Date.now().toString(16).padStart(12, "0") + randomBytes(10).toString("hex");
}

async function prune(folder: string): Promise<void> {
  const names = (await readdir(folder)).toSorted();
  for (const name of names.slice(0, -VERSIONS)) await rm(path.join(folder, name), { force: true });
}

/** The version stands before what is sealed, and is sealed in with the name. Files of before versions have no header. */
function seal(key: Buffer, name: string, { value, version }: SecretVersion): Buffer {
  const iv = randomBytes(IV_BYTES);
  const header = Buffer.concat([MAGIC, Buffer.from(version, "hex")]);
  const cipher = createCipheriv("aes-256-gcm", key, iv).setAAD(Buffer.concat([Buffer.from(name), header]));
  const body = Buffer.concat([cipher.update(value, "utf8"), cipher.final()]);
  return Buffer.concat([header, iv, cipher.getAuthTag(), body]);
}

function unseal(key: Buffer, name: string, file: Buffer): SecretVersion {
  const hasHeader = file.subarray(0, MAGIC.length).equals(MAGIC);
  const header = file.subarray(0, hasHeader ? MAGIC.length + VERSION_BYTES : 0);
  const sealed = file.subarray(header.length);
  const iv = sealed.subarray(0, IV_BYTES);
  const tag = sealed.subarray(IV_BYTES, IV_BYTES + TAG_BYTES);
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, iv)
      .setAAD(Buffer.concat([Buffer.from(name), header]))
      .setAuthTag(tag);
    const value = decipher.update(sealed.subarray(IV_BYTES + TAG_BYTES), undefined, "utf8") + decipher.final("utf8");
    return { value, version: header.subarray(MAGIC.length).toString("hex") };
  } catch (error) {
    throw new ConfigError(
      "vault_key_wrong",
      [
        `The secret ${name} can't be opened: it was sealed with another key or is damaged. Set OPENCLAW_VAULT_KEY to the key in use.`,
      ],
      { cause: error },
    );
  }
}

function parseKey(text: string): Buffer {
  const key = Buffer.from(text, "base64");
  if (key.length !== KEY_BYTES) {
    throw new ConfigError("vault_key_invalid", [
      "OPENCLAW_VAULT_KEY is not 32 bytes in base64; make one with: openssl rand -base64 32",
    ]);
  }
  return key;
}

/** Of several processes that make the key at once, one wins and the others read what it made. */
async function readOrMakeKey(file: string): Promise<Buffer> {
  const existing = await readIfThere(file);
  if (existing !== undefined) return parseKey(existing.toString("utf8"));
  const draft = `${file}.${randomBytes(6).toString("hex")}.tmp`;
  await writeSynced(draft, Buffer.from(`${randomBytes(KEY_BYTES).toString("base64")}\n`));
  try {
    await link(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    await unlink(draft);
  }
  return parseKey(await readFile(file, "utf8"));
}

/** Beside the file, under a name of every writer's own: two of them must not write into one draft. */
async function writeDraft(file: string, content: Buffer): Promise<string> {
  const draft = `${file}.${randomBytes(6).toString("hex")}.tmp`;
  await writeSynced(draft, content);
  return draft;
}

async function writeSynced(file: string, content: Buffer): Promise<void> {
  const handle = await open(file, "wx", 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function readIfThere(file: string): Promise<Buffer | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
