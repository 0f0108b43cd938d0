import type { TenantId } from "../platform/ids.ts";

/** Each holds a connection to its runtime and one to Telegram for as long as it takes. */
const MAX_TRANSFERS = 32;
/** No tenant may take them all. */
const MAX_TRANSFERS_OF_TENANT = 4;

export type TransferPlaces = {
  /** A place for one file on its way, and how to leave it; undefined when there is none. */
  enter(tenantId: TenantId): (() => void) | undefined;
};

export function createTransferPlaces(): TransferPlaces {
  const taken = new Map<TenantId, number>();
  let total = 0;
  return {
    enter(tenantId) {
      const own = taken.get(tenantId) ?? 0;
      if (total >= MAX_TRANSFERS || own >= MAX_TRANSFERS_OF_TENANT) return undefined;
      total += 1;
      taken.set(tenantId, own + 1);
      return () => {
        total -= 1;
        const rest = (taken.get(tenantId) ?? 1) - 1;
        if (rest === 0) taken.delete(tenantId);
        else taken.set(tenantId, rest);
      };
    },
  };
}
