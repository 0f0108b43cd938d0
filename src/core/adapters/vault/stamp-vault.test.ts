import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { ConfigError } from "../../platform/errors.ts";
import type { StampId, TenantId } from "../../platform/ids.ts";
import { someTenantId } from "../runtime/contract.ts";
import { createFileVault } from "./file-vault.ts";
import { createStampVault } from "./stamp-vault.ts";
import { tenantSecretName, tenantSecretPrefix } from "./vault.ts";

const [FIRST, SECOND] = ["default", "two"] as StampId[];

async function setUp(t: TestContext, places: ReadonlyMap<TenantId, string>) {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-stamps-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const open = (name: string) => createFileVault({ folder: path.join(folder, name), key: undefined });
  const [one, two] = [open("one"), open("two")];
  assert.ok(FIRST && SECOND);
  const vaults = new Map([
    [FIRST, one],
    [SECOND, two],
  ]);
  return { one, two, vault: createStampVault(vaults, async (id) => places.get(id) as StampId | undefined) };
}

test("a tenant's secrets lie in the vault of its stamp, all else in the first", async (t) => {
  const tenantId = someTenantId();
  const { one, two, vault } = await setUp(t, new Map([[tenantId, "two"]]));
  await vault.set(tenantSecretName(tenantId, "model-key", 1), "its own");
  await vault.set("oauth-google", "everybody's");
  assert.deepEqual([await one.list(""), (await two.list("")).length], [["oauth-google"], 1]);
});

test("what a tenant that is gone has left is found and removed in whatever vault it lies (F97)", async (t) => {
  const tenantId = someTenantId();
  const { two, vault } = await setUp(t, new Map());
  const name = tenantSecretName(tenantId, "model-key", 1);
  await two.set(name, "left behind");
  assert.deepEqual(await vault.list(tenantSecretPrefix(tenantId)), [name]);
  assert.equal(await vault.get(name), "left behind");
  await vault.delete(name);
  assert.deepEqual(await two.list(""), []);
});

test("no second keys are made for a tenant whose stamp is not configured (F45)", async (t) => {
  const tenantId = someTenantId();
  const { one, vault } = await setUp(t, new Map([[tenantId, "three"]]));
  const name = tenantSecretName(tenantId, "model-key", 1);
  await assert.rejects(vault.get(name), ConfigError);
  await assert.rejects(vault.set(name, "second"), /the stamp "three" is not configured/);
  assert.deepEqual(await one.list(""), []);
});
