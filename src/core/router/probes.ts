import type { TenantId } from "../platform/ids.ts";
import type { DeliveryResult } from "./delivery.ts";

/** As many as there can be tenants in trouble at once; beyond that, one more try each is no harm. */
const MAX_KNOWN = 100_000;

/**
 * Keeps runtimes in trouble from taking up all that others need: one that hangs holds its try for 15 s. At most `most` of
 * those whose last try failed are tried at once.
 */
export function createProbes(most: number) {
  const inTrouble = new Set<TenantId>();
  let probing = 0;

  return {
    /** Undefined when it was not tried. */
    async post(tenantId: TenantId, attempt: () => Promise<DeliveryResult>): Promise<DeliveryResult | undefined> {
      const isProbe = inTrouble.has(tenantId);
      if (isProbe && probing >= most) return undefined;
      if (isProbe) probing += 1;
      try {
        const result = await attempt();
        if (inTrouble.size >= MAX_KNOWN) inTrouble.clear();
        if (result.kind === "unavailable") inTrouble.add(tenantId);
        else inTrouble.delete(tenantId);
        return result;
      } finally {
        if (isProbe) probing -= 1;
      }
    },
  };
}
