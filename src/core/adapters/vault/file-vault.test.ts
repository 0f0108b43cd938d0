import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { after, before } from "node:test";
import { ConfigError, UpstreamError } from "../../platform/errors.ts";
import { vaultContract } from "./contract.ts";
import { createFileVault } from "./file-vault.ts";

let root: string;
before(async () => {
  root = await mkdtemp(path.join(tmpdir(), "openclaw-vault-"));
});
after(() => rm(root, { recursive: true }));

const newFolder = () => path.join(root, randomBytes(4).toString("hex"));

vaultContract("file", async () => createFileVault({ folder: newFolder(), key: undefined }));

test("nothing on disk shows a value, and only its owner may read the files", async () => {
  const folder = newFolder();
  await createFileVault({ folder, key: undefined }).set("a", "in the clear?");
  const sealed = await readFile(path.join(folder, "newest", "a"));
  assert.equal(sealed.includes("in the clear?"), false);
  for (const file of ["key", "newest/a"]) assert.equal((await stat(path.join(folder, file))).mode & 0o777, 0o600);
});

test("a secret moved to another name can't be opened, nor any with another key", async () => {
  const folder = newFolder();
  const key = randomBytes(32).toString("base64");
  const vault = createFileVault({ folder, key });
  await vault.set("mine", "value");
  const other = createFileVault({ folder, key: randomBytes(32).toString("base64") });
  await assert.rejects(other.get("mine"), ConfigError);
  await rename(path.join(folder, "newest", "mine"), path.join(folder, "newest", "yours"));
  await assert.rejects(vault.get("yours"), ConfigError);
});

test("a disk that takes nothing, or gives nothing, is an outside trouble and no bug", async () => {
  const folder = newFolder();
  const vault = createFileVault({ folder, key: undefined });
  await vault.set("a", "value");
  await writeFile(path.join(folder, "versions", "b"), "in the way");
  await mkdir(path.join(folder, "newest", "c"));
  const isTrouble = (error: unknown) =>
    error instanceof UpstreamError && error.code === "vault_failed" && error.retryable && error.cause instanceof Error;
  await assert.rejects(vault.set("b", "value"), isTrouble);
  await assert.rejects(vault.getNewest("c"), isTrouble);
  assert.equal(await vault.get("a"), "value");
});

test("processes that start at once share one key, and concurrent writers leave one whole value (F41)", async () => {
  const folder = newFolder();
  const vaults = Array.from({ length: 8 }, () => createFileVault({ folder, key: undefined }));
  await Promise.all(vaults.map((vault, index) => vault.set("shared", `value ${index}`)));
  const values = new Set(await Promise.all(vaults.map((vault) => vault.get("shared"))));
  assert.equal(values.size, 1);
  assert.deepEqual(await readdir(path.join(folder, "newest")), ["shared"]);
});

test("a key of the wrong length is refused with the way to make one", async () => {
  await assert.rejects(createFileVault({ folder: newFolder(), key: "short" }).get("a"), /openssl rand -base64 32/);
});
