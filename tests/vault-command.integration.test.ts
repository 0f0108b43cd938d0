import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, beforeEach, test, type TestContext } from "node:test";
import { createFileVault } from "../src/core/adapters/vault/file-vault.ts";
import { createTestDatabase, type TestDatabase } from "../src/core/testing/database.ts";
import { documentOf, expectCode, openFolder, temporaryFolder } from "./command.ts";

let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());
beforeEach(() => database.pool.query("TRUNCATE audit_log"));

const newKey = () => randomBytes(32).toString("base64");

async function open(t: TestContext, env: Record<string, string> = {}) {
  const data = await temporaryFolder(t);
  const folder = path.join(data, "vault");
  const openclaw = await openFolder(t, { DATABASE_URL: database.url, OPENCLAW_DATA_DIR: data, ...env });
  const rotate = (...args: string[]) => openclaw("vault", "rotate-key", ...args);
  return { data, folder, rotate, vault: (key?: string) => createFileVault({ folder, key }) };
}

async function audited() {
  return (await database.pool.query("SELECT action, actor, reason FROM audit_log")).rows;
}

test("vault rotate-key seals all with a new key, tells what it did, and never a key", async (t) => {
  const { folder, rotate, vault } = await open(t);
  const daemon = vault();
  for (const value of ["first", "second"]) await daemon.set("tenant-a", value);
  const old = await readFile(path.join(folder, "key"), "utf8");
  const counts = { source: "folder", resumed: false, secrets: 1, versions: 2, resealed: 2, unreadable: [] };
  const dry = expectCode(await rotate("--dry-run", "--json"), 0);
  assert.deepEqual(documentOf(dry), { dryRun: true, ...counts, oldKeys: 1 });
  assert.deepEqual(await audited(), []);
  assert.equal(await readFile(path.join(folder, "key"), "utf8"), old);

  const done = expectCode(await rotate("--json", "--reason", "a laptop was lost"), 0);
  assert.deepEqual(documentOf(done), { dryRun: false, ...counts, oldKeys: 0 });
  assert.deepEqual(await audited(), [{ action: "vault.rotate-key", actor: "ops", reason: "a laptop was lost" }]);
  assert.equal(await daemon.get("tenant-a"), "second");
  const said = expectCode(await rotate(), 0);
  assert.match(said.stderr, /2 versions of 1 secrets; 2 were sealed again.\nAll is sealed with the new key/);
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.startsWith("key")),
    ["key.3"],
  );
  const current = await readFile(path.join(folder, "key.3"), "utf8");
  for (const { stdout, stderr } of [dry, done, said])
    for (const key of [old, current]) assert.ok(!(stdout + stderr).includes(key.trim()));
});

test("with keys of the environment it seals with the first, and says when the others can go", async (t) => {
  const [old, recent] = [newKey(), newKey()];
  const { rotate, vault } = await open(t, { OPENCLAW_VAULT_KEY: `${recent},${old}` });
  await vault(old).set("a", "1");
  const { stdout, stderr } = expectCode(await rotate(), 0);
  assert.match(
    stderr,
    /Once every daemon was started with this OPENCLAW_VAULT_KEY, run this again; then the other keys/,
  );
  assert.ok(![old, recent].some((key) => (stdout + stderr).includes(key)));
  assert.equal(await vault(recent).get("a"), "1");
});

test("a secret that no key opens is named with exit 7, and the old key is kept", async (t) => {
  const { folder, rotate, vault } = await open(t);
  const version = await vault().set("damaged", "1");
  await vault().set("sound", "2");
  await writeFile(path.join(folder, "versions", "damaged", version), "nothing of ours");
  const { stderr } = expectCode(await rotate(), 7);
  assert.match(stderr, /No key opens damaged: .* The old keys are kept until then/);
  assert.equal(await vault().get("sound"), "2");
  assert.equal((await readdir(folder)).filter((name) => name.startsWith("key")).length, 2);
});

test("a Key Vault keeps its own keys: exit 5", async (t) => {
  const { rotate } = await open(t, { OPENCLAW_VAULT: "azure", AZURE_KEY_VAULT_NAME: "my-vault" });
  const outcome = expectCode(await rotate("--json"), 5);
  assert.deepEqual((documentOf(outcome)["error"] as { code: string }).code, "vault_keeps_keys");
});
