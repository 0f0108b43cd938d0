import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { chmod, link, mkdir, open, readdir, readFile, rename, rm, unlink } from "node:fs/promises";
import path from "node:path";
import { makeDataDir } from "../../platform/data-dir.ts";
import { ConfigError } from "../../platform/errors.ts";
import { checkSecretName, checkSecretValue, type Vault } from "./vault.ts";

const IV_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;

/**
 * Secrets as files below `folder`, each sealed with AES-256-GCM and bound to its name, written by rename so that a reader
 * sees the old or the new value, never half of one. The key is `key`, else a 0600 file that is made on first use.
 */
export function createFileVault(options: { folder: string; key: string | undefined }): Vault {
  const secrets = path.join(options.folder, "secrets");
  let ready: Promise<Buffer> | undefined;

  function unlock(): Promise<Buffer> {
    ready ??= prepare();
    return ready;
  }
  async function prepare(): Promise<Buffer> {
    await makeDataDir(path.dirname(options.folder));
    await mkdir(secrets, { recursive: true, mode: 0o700 });
    await chmod(options.folder, 0o700);
    return options.key === undefined ? readOrMakeKey(path.join(options.folder, "key")) : parseKey(options.key);
  }
  function fileOf(name: string): string {
    return path.join(secrets, checkSecretName(name));
  }

  return {
    async get(name) {
      const key = await unlock();
      const sealed = await readIfThere(fileOf(name));
      return sealed === undefined ? undefined : unseal(key, checkSecretName(name), sealed);
    },
    async set(name, value) {
      const key = await unlock();
      await writeAtomically(fileOf(name), seal(key, checkSecretName(name), checkSecretValue(name, value)));
    },
    async delete(name) {
      await unlock();
      await rm(fileOf(name), { force: true });
    },
    async list(prefix) {
      await unlock();
      const names = await readdir(secrets);
      return names.filter((name) => !name.endsWith(".tmp") && name.startsWith(prefix.toLowerCase())).toSorted();
    },
  };
}

function seal(key: Buffer, name: string, value: string): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, iv).setAAD(Buffer.from(name));
  const body = Buffer.concat([cipher.update(value, "utf8"), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), body]);
}

function unseal(key: Buffer, name: string, sealed: Buffer): string {
  const iv = sealed.subarray(0, IV_BYTES);
  const tag = sealed.subarray(IV_BYTES, IV_BYTES + TAG_BYTES);
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, iv).setAAD(Buffer.from(name)).setAuthTag(tag);
    return decipher.update(sealed.subarray(IV_BYTES + TAG_BYTES), undefined, "utf8") + decipher.final("utf8");
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

async function writeAtomically(file: string, content: Buffer): Promise<void> {
  // Its own name for every writer: two of them must not write into one draft.
  const draft = `${file}.${randomBytes(6).toString("hex")}.tmp`;
  await writeSynced(draft, content);
  await rename(draft, file);
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
