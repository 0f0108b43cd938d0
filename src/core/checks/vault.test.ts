import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { createFileVault } from "../adapters/vault/file-vault.ts";
import type { Vault } from "../adapters/vault/vault.ts";
import type { StampId } from "../platform/ids.ts";
import { vaultChecks } from "./vault.ts";

async function look(t: TestContext, change: (vault: Vault) => Partial<Vault>) {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-vault-check-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const vault = createFileVault({ folder, key: undefined });
  const [check] = vaultChecks([["default" as StampId, { ...vault, ...change(vault) }]], true);
  assert.ok(check !== undefined);
  return { vault, result: await check.run() };
}

test("a vault that keeps its word is fine, and nothing is left in it", async (t) => {
  const { vault, result } = await look(t, () => ({}));
  assert.equal(result.status, "ok");
  assert.deepEqual(await vault.list(""), []);
});

test("a vault that gives the newest for every version, an old one for the newest, or what was deleted, is found out", async (t) => {
  const stale = await look(t, (vault) => ({ getVersion: async (name) => vault.get(name) }));
  assert.match(stale.result.message, /not read back by its version/);
  const late = await look(t, (vault) => ({
    getNewest: async (name) => ({ value: "first", version: (await vault.getNewest(name))?.version ?? "" }),
  }));
  assert.match(late.result.message, /written was not read back/);
  const kept = await look(t, () => ({ delete: async () => {} }));
  assert.match(kept.result.message, /still there/);
});

test("a key that does not open what is there is found, though it opens what was sealed with it", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-vault-check-"));
  t.after(() => rm(folder, { recursive: true }));
  const key = () => randomBytes(32).toString("base64");
  await createFileVault({ folder, key: key() }).set("tenant-a-model-key", "secret");
  const [check] = vaultChecks([["default" as StampId, createFileVault({ folder, key: key() })]], true);
  assert.ok(check !== undefined);
  await assert.rejects(check.run(), { code: "vault_key_wrong" });
});
