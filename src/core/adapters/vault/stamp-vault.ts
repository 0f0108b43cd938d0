import { ConfigError } from "../../platform/errors.ts";
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

  /** Undefined: the tenant is gone, and may have left secrets anywhere. @throws ConfigError for a stamp that is not configured. */
  async function vaultOf(name: string): Promise<Vault | undefined> {
    const tenantId = tenantOfSecret(name);
    if (tenantId === undefined) return common;
    const stamp = known.get(tenantId) ?? (await findStamp(tenantId));
    if (stamp === undefined) return undefined;
    known.set(tenantId, stamp);
    const vault = vaults.get(stamp);
    if (vault !== undefined) return vault;
    // Keys made in another vault would be second ones, which nobody finds again.
    throw new ConfigError("stamp_unknown", [
      `the stamp "${stamp}" is not configured here; add it to the file of OPENCLAW_STAMPS_FILE`,
    ]);
  }

  /** From its own vault, or from whichever has it when that is not known. */
  async function read<Result>(
    name: string,
    from: (vault: Vault) => Promise<Result | undefined>,
  ): Promise<Result | undefined> {
    const vault = await vaultOf(name);
    if (vault !== undefined) return from(vault);
    const values = await Promise.all([...vaults.values()].map(from));
    return values.find((value) => value !== undefined);
  }

  return {
    get: (name) => read(name, (vault) => vault.get(name)),
    getNewest: (name) => read(name, (vault) => vault.getNewest(name)),
    getVersion: (name, version) => read(name, (vault) => vault.getVersion(name, version)),
    set: async (name, value) => ((await vaultOf(name)) ?? common).set(name, value),
    async delete(name) {
      const vault = await vaultOf(name);
      for (const one of vault === undefined ? vaults.values() : [vault]) await one.delete(name);
    },
    async list(prefix) {
      const vault = tenantOfSecret(prefix) === undefined ? undefined : await vaultOf(prefix);
      if (vault !== undefined) return vault.list(prefix);
      const lists = await Promise.all([...vaults.values()].map((one) => one.list(prefix)));
      return [...new Set(lists.flat())].toSorted();
    },
  };
}
