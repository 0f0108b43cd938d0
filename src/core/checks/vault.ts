import { randomBytes } from "node:crypto";
import type { Vault } from "../adapters/vault/vault.ts";
import { type Check, failed, ok } from "../platform/check.ts";
import type { StampId } from "../platform/ids.ts";

/** A Key Vault takes its time to delete. */
const TIMEOUT_MS = 60_000;

/** In each, a secret of its own is written, read back and deleted. */
export function vaultChecks(vaults: readonly [StampId, Vault][]): Check[] {
  return vaults.map(([stamp, vault]) => vaultCheck(vaults.length === 1 ? "vault" : `vault ${stamp}`, vault));
}

function vaultCheck(name: string, vault: Vault): Check {
  return {
    name,
    timeoutMs: TIMEOUT_MS,
    async run() {
      const random = randomBytes(16).toString("hex");
      const secret = `check-${random}`;
      await vault.set(secret, random);
      const read = await vault.get(secret);
      await vault.delete(secret);
      const remedy = "Look whether somebody else writes to the vault, or whether it answers from a stale copy.";
      if (read !== random) return failed("a secret that was written was not read back", remedy);
      if ((await vault.get(secret)) !== undefined) return failed("a secret that was deleted is still there", remedy);
      return ok("a secret was written, read back and deleted");
    },
  };
}
