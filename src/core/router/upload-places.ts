import type { TenantId } from "../platform/ids.ts";

/** Each holds a connection to its runtime and one to Telegram for as long as it takes. */
const MAX_UPLOADS = 32;
/** No tenant may take them all. */
const MAX_UPLOADS_OF_TENANT = 4;

export type UploadPlaces = {
  /** A place for one upload, and how to leave it; undefined when there is none. */
  enter(tenantId: TenantId): (() => void) | undefined;
};

export function createUploadPlaces(): UploadPlaces {
  const taken = new Map<TenantId, number>();
  let total = 0;
  return {
    enter(tenantId) {
      const own = taken.get(tenantId) ?? 0;
      if (total >= MAX_UPLOADS || own >= MAX_UPLOADS_OF_TENANT) return undefined;
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
