import { randomBytes } from "node:crypto";
import type { Vault } from "../adapters/vault/vault.ts";
import { type Check, failed, ok } from "../platform/check.ts";

/** A Key Vault takes its time to delete. */
const TIMEOUT_MS = 60_000;

/** A secret of its own is written, read back and deleted. */
export function vaultCheck(vault: Vault): Check {
  return {
    name: "vault",
    timeoutMs: TIMEOUT_MS,
    async run() {
      const random = randomBytes(16).toString("hex");
      const name = `check-${random}`;
      await vault.set(name, random);
      const read = await vault.get(name);
      await vault.delete(name);
      const remedy = "Look whether somebody else writes to the vault, or whether it answers from a stale copy.";
      if (read !== random) return failed("a secret that was written was not read back", remedy);
      if ((await vault.get(name)) !== undefined) return failed("a secret that was deleted is still there", remedy);
      return ok("a secret was written, read back and deleted");
    },
  };
}
