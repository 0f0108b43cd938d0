import { findLastModelCalls } from "../core/billing/billing.ts";
import type { ActivityReader } from "../core/orchestrator/orchestrator.ts";
import type { TenantId } from "../core/platform/ids.ts";
import { findLastCalls } from "../core/router/activity.ts";
import { findLastDeliveries } from "../core/router/message-count.ts";

/** What a runtime was sent, what it said, what it asked models: whichever came last. */
export const lastActivity: ActivityReader = async (db, tenantIds) => {
  const last = new Map<TenantId, Date>();
  for (const find of [findLastDeliveries, findLastCalls, findLastModelCalls]) {
    for (const [tenantId, at] of await find(db, tenantIds)) {
      const known = last.get(tenantId);
      if (known === undefined || known < at) last.set(tenantId, at);
    }
  }
  return last;
};
