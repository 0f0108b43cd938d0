import { randomBytes } from "node:crypto";
import type { Vault } from "../adapters/vault/vault.ts";
import { type Check, failed, ok } from "../platform/check.ts";
import type { StampId } from "../platform/ids.ts";

/** A Key Vault takes its time to delete. */
const TIMEOUT_MS = 60_000;

/**
 * In each, a secret of its own is written twice, read back by both versions, and deleted. `isSealed`: with a key of ours, which has to
 * open what is there already. Listing a Key Vault would take long, and tell no more.
 */
export function vaultChecks(vaults: readonly [StampId, Vault][], isSealed: boolean): Check[] {
  const nameOf = (stamp: StampId) => (vaults.length === 1 ? "vault" : `vault ${stamp}`);
  return vaults.map(([stamp, vault]) => vaultCheck(nameOf(stamp), vault, isSealed));
}

function vaultCheck(name: string, vault: Vault, isSealed: boolean): Check {
  return {
    name,
    timeoutMs: TIMEOUT_MS,
    async run() {
      const [existing] = isSealed ? await vault.list("") : [];
      if (existing !== undefined) await vault.get(existing);
      const secret = `check-${randomBytes(16).toString("hex")}`;
      const found = await tryOut(vault, secret);
      await vault.delete(secret);
      const remedy = "Look whether somebody else writes to the vault, or whether it answers from a stale copy.";
      if (found !== undefined) return failed(found, remedy);
      if ((await vault.get(secret)) !== undefined) return failed("a secret that was deleted is still there", remedy);
      return ok("a secret was written, read back by its versions and deleted");
    },
  };
}

/** @returns what is wrong. */
async function tryOut(vault: Vault, secret: string): Promise<string | undefined> {
  const first = await vault.set(secret, "first");
  const second = await vault.set(secret, "second");
  const newest = await vault.getNewest(secret);
  if (newest?.value !== "second" || newest.version !== second) return "a secret that was written was not read back";
  const values = [await vault.getVersion(secret, first), await vault.getVersion(secret, second)];
  return values.join() === "first,second" ? undefined : "a secret was not read back by its version";
}
