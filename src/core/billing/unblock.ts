import { writeAudit } from "../platform/audit.ts";
import type { TenantId } from "../platform/ids.ts";
import { lockTenant } from "../tenants/tenants.ts";
import { applyEntitlement, type BillingContext } from "./apply.ts";
import { findBlock } from "./block.ts";
import { readRecords, saveAccounts, saveCharges } from "./book-store.ts";

/**
 * Lifts every block of a tenant at an operator's word, for good: what Stripe says again of these charges sets none. The
 * tenant's status follows.
 * @returns the charges that blocked.
 */
export async function unblockTenant(ctx: BillingContext, tenantId: TenantId, reason: string): Promise<string[]> {
  const now = ctx.clock.now();
  const lifted = await ctx.db.transaction().execute(async (tx) => {
    await lockTenant(tx, tenantId);
    const { accounts, charges, payments } = await readRecords(tx, [tenantId]);
    const known = new Map(charges.map((charge) => [charge.id, charge]));
    const ids: string[] = [];
    // Behind the latest block there may be older ones.
    for (let id = findBlock(known.values(), payments); id !== null; id = findBlock(known.values(), payments)) {
      const charge = known.get(id);
      if (charge === undefined) break;
      known.set(id, { ...charge, unblockedAt: now });
      ids.push(id);
    }
    if (ids.length === 0) return ids;
    await saveCharges(tx, [...known.values()]);
    await saveAccounts(
      tx,
      accounts.map((account) => ({ ...account, blockedChargeId: null, updatedAt: now })),
    );
    const entry = { at: now, actor: ctx.actor, action: "billing.unblocked", tenantId, reason };
    await writeAudit(tx, { ...entry, detail: { charges: ids } });
    return ids;
  });
  if (lifted.length > 0) await applyEntitlement(ctx, tenantId);
  return lifted;
}
