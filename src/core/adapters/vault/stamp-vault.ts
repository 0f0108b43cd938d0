import type { StampId, TenantId } from "../../platform/ids.ts";
import { tenantOfSecret, type Vault } from "./vault.ts";

/**
 * The vaults of several stamps as one: a tenant's secrets lie in the vault of its own stamp, all else in that of the first. Where a
 * tenant lives never changes, so that it is asked for once.
 */
export function createStampVault(
  vaults: ReadonlyMap<StampId, Vault>,
  findStamp: (tenantId: TenantId) => Promise<StampId | undefined>,
): Vault {
  const [first] = vaults.values();
  if (first === undefined) throw new RangeError("there is no stamp");
  const common = first;
  const known = new Map<TenantId, StampId>();

  async function vaultOf(name: string): Promise<Vault> {
    const tenantId = tenantOfSecret(name);
    if (tenantId === undefined || vaults.size === 1) return common;
    const stamp = known.get(tenantId) ?? (await findStamp(tenantId));
    // A tenant that is gone may have left secrets anywhere; they are found by `list`.
    if (stamp === undefined) return common;
    known.set(tenantId, stamp);
    return vaults.get(stamp) ?? common;
  }

  return {
    get: async (name) => (await vaultOf(name)).get(name),
    set: async (name, value) => (await vaultOf(name)).set(name, value),
    delete: async (name) => (await vaultOf(name)).delete(name),
    async list(prefix) {
      if (tenantOfSecret(prefix) !== undefined) return (await vaultOf(prefix)).list(prefix);
      const lists = await Promise.all([...vaults.values()].map((vault) => vault.list(prefix)));
      return lists.flat().toSorted();
    },
  };
}
