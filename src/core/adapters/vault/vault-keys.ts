import { randomBytes } from "node:crypto";
import { link, readdir, rm } from "node:fs/promises";
import path from "node:path";
import { ConfigError } from "../../platform/errors.ts";
import { syncFolder } from "../../platform/sync-folder.ts";
import { KEY_BYTES } from "./sealed-secret.ts";
import { hasCode, readIfThere, writeSynced } from "./synced-file.ts";

/** Later keys have higher numbers. */
export type VaultKey = { number: number; bytes: Buffer };

export type VaultKeys = {
  /** As they are now: the first seals, and all open. */
  list(): Promise<[VaultKey, ...VaultKey[]]>;
};

/** The keys of OPENCLAW_VAULT_KEY, of which the first seals. `list` throws ConfigError for what is no key. */
export function createGivenKeys(text: string): VaultKeys {
  const texts = text.split(",");
  const parse = (key: string, index: number) => ({ number: texts.length - index, bytes: parseKey(key.trim()) });
  return {
    async list() {
      const [first = "", ...others] = texts;
      return [parse(first, 0), ...others.map((key, index) => parse(key, index + 1))];
    },
  };
}

export type KeyFiles = VaultKeys & {
  /** Makes the one after that number, unless another process has: it seals from now on. */
  addAfter(number: number): Promise<void>;
  /** Those below the number. */
  dropBelow(number: number): Promise<void>;
};

/**
 * Keys in 0600 files `key`, `key.2`, `key.3`, … of a folder. No file is ever written again, so that a look at the names shows what
 * other processes have changed. The first is made when it is asked for, unless `isUsed`: then it was lost.
 */
export function createKeyFiles(folder: string, isUsed: () => Promise<boolean>): KeyFiles {
  const known = new Map<number, VaultKey>();

  async function look(): Promise<VaultKey[]> {
    const numbers = (await readdir(folder)).flatMap((name) => numberOf(name) ?? []).toSorted((a, b) => b - a);
    const added = numbers.filter((number) => !known.has(number));
    for (const number of added) {
      const text = await readIfThere(path.join(folder, nameOf(number)));
      if (text !== undefined) known.set(number, { number, bytes: parseKey(text.toString("utf8")) });
    }
    // Whoever made it may not have got so far, and what is sealed with it must not outlive it.
    if (added.length > 0) await syncFolder(folder);
    for (const number of known.keys()) if (!numbers.includes(number)) known.delete(number);
    return numbers.flatMap((number) => known.get(number) ?? []);
  }

  /** Of several processes that make the key at once, one wins and the others read what it made. */
  async function make(number: number): Promise<void> {
    const draft = path.join(folder, `key.${randomBytes(6).toString("hex")}.tmp`);
    await writeSynced(draft, async () => Buffer.from(`${randomBytes(KEY_BYTES).toString("base64")}\n`));
    try {
      await link(draft, path.join(folder, nameOf(number)));
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw error;
    } finally {
      await rm(draft);
    }
  }

  async function list(): Promise<[VaultKey, ...VaultKey[]]> {
    for (let isInUse = false; ; isInUse = await isUsed()) {
      const [first, ...others] = await look();
      if (first !== undefined) return [first, ...others];
      // Another process may have made it, and used it, between the two.
      if (isInUse) throw lost(folder);
      if (!(await isUsed())) await make(1);
    }
  }

  return {
    list,
    async addAfter(number) {
      await make(number + 1);
      await syncFolder(folder);
    },
    async dropBelow(number) {
      for (const key of await list())
        if (key.number < number) await rm(path.join(folder, nameOf(key.number)), { force: true });
      await syncFolder(folder);
    },
  };
}

function nameOf(number: number): string {
  return number === 1 ? "key" : `key.${number}`;
}

function numberOf(name: string): number | undefined {
  const [, digits] = /^key(?:\.([1-9]\d{0,8}))?$/.exec(name) ?? [undefined, undefined];
  if (digits !== undefined) return Number(digits);
  return name === "key" ? 1 : undefined;
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

function lost(folder: string): ConfigError {
  return new ConfigError("vault_key_lost", [
    `${folder} has secrets, but no key that opens them. Put the file "key" back from a backup, or set OPENCLAW_VAULT_KEY to the key in use.`,
  ]);
}
