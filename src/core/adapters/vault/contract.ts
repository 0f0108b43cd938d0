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

    test("every write is a version of its own, and stays readable by it whatever is written later", async () => {
      const vault = await setUp();
      const first = await vault.set("versioned", "first ✓");
      const second = await vault.set("versioned", "second");
      const same = await vault.set("versioned", "second");
      assert.equal(new Set([first, second, same]).size, 3);
      assert.deepEqual(await vault.getNewest("Versioned"), { value: "second", version: same });
      for (const [version, value] of [
        [first, "first ✓"],
        [second, "second"],
        [same, "second"],
      ] as const)
        assert.equal(await vault.getVersion("Versioned", version), value);
    });

    test("a version of another secret, an unknown one and no version at all are undefined", async () => {
      const vault = await setUp();
      const version = await vault.set("mine", "value");
      await vault.set("yours", "other");
      for (const unknown of [version, "0".repeat(32), "", "..", "../mine", `${version}/`])
        assert.equal(await vault.getVersion("yours", unknown), undefined, unknown);
      assert.equal(await vault.getVersion("absent", version), undefined);
      assert.equal(await vault.getNewest("absent"), undefined);
    });

    test("concurrent writers get a version each, and each reads what it wrote (F76)", async () => {
      const vault = await setUp();
      const values = Array.from({ length: 6 }, (_, nth) => `value ${nth}`);
      const versions = await Promise.all(values.map((value) => vault.set("shared", value)));
      assert.equal(new Set(versions).size, values.length);
      const read = await Promise.all(versions.map((version) => vault.getVersion("shared", version)));
      assert.deepEqual(read, values);
      const newest = await vault.getNewest("shared");
      assert.ok(newest !== undefined && versions.indexOf(newest.version) === values.indexOf(newest.value));
    });

    test("a deletion takes all versions, and none of before it is ever the new value (F74)", async () => {
      const vault = await setUp();
      const before = [await vault.set("again", "one"), await vault.set("again", "two")];
      await vault.delete("again");
      for (const version of before) assert.equal(await vault.getVersion("again", version), undefined);
      assert.equal(await vault.getNewest("again"), undefined);
      const after = await vault.set("again", "three");
      assert.ok(!before.includes(after));
      assert.deepEqual(await vault.getNewest("again"), { value: "three", version: after });
      assert.equal(await vault.getVersion("again", after), "three");
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
