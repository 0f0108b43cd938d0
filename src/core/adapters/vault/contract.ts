import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { UsageError } from "../../platform/errors.ts";
import type { Vault } from "./vault.ts";

/** What every vault does. `setUp` gives an empty one. */
export function vaultContract(name: string, setUp: () => Promise<Vault>): void {
  describe(`vault: ${name}`, () => {
    test("a secret is read back as it was written, and replaced by the next write", async () => {
      const vault = await setUp();
      await vault.set("tenant-a-token", "first ✓");
      await vault.set("tenant-a-token", "second");
      assert.equal(await vault.get("tenant-a-token"), "second");
    });

    test("an absent secret is undefined", async () => {
      const vault = await setUp();
      assert.equal(await vault.get("nothing"), undefined);
    });

    test("names are compared without case", async () => {
      const vault = await setUp();
      await vault.set("Tenant-A", "one");
      assert.equal(await vault.get("tenant-a"), "one");
    });

    test("a deleted secret is gone, deleting twice is fine, and the name can be used again at once (F74)", async () => {
      const vault = await setUp();
      await vault.set("again", "one");
      await vault.delete("again");
      await vault.delete("again");
      assert.equal(await vault.get("again"), undefined);
      await vault.set("again", "two");
      assert.equal(await vault.get("again"), "two");
    });

    test("listing gives the names under a prefix", async () => {
      const vault = await setUp();
      for (const secret of ["t-2-b", "t-1-b", "t-1-a"]) await vault.set(secret, "x");
      assert.deepEqual(await vault.list("t-1-"), ["t-1-a", "t-1-b"]);
    });

    test("a bad name and an empty value are refused (F72, F92)", async () => {
      const vault = await setUp();
      await assert.rejects(vault.set("-token", "x"), UsageError);
      await assert.rejects(vault.set("../token", "x"), UsageError);
      await assert.rejects(vault.get(""), UsageError);
      await assert.rejects(vault.set("token", ""), UsageError);
    });
  });
}
