import type { KeyRotation, RotateKey, RotationOptions } from "../adapters/vault/key-rotation.ts";
import { writeAudit } from "../platform/audit.ts";
import { ConflictError } from "../platform/errors.ts";
import type { TenantsContext } from "../tenants/tenants.ts";

/**
 * Has everything in the vault sealed with another key, while daemons go on using it. Run again, it goes on with what was cut off.
 * @throws ConflictError where the vault looks after its keys itself.
 */
export async function rotateVaultKey(
  { db, clock, actor }: TenantsContext,
  rotate: RotateKey | undefined,
  { reason, ...options }: RotationOptions & { reason: string },
): Promise<KeyRotation> {
  if (rotate === undefined) {
    const message =
      "Secrets lie in a Key Vault, which encrypts them with keys of its own and changes those itself: there is nothing to do.";
    throw new ConflictError("vault_keeps_keys", message);
  }
  // Before anything is changed: one that is cut off was asked for all the same.
  if (!options.dryRun) await writeAudit(db, { at: clock.now(), actor, action: "vault.rotate-key", reason });
  return rotate(options);
}
