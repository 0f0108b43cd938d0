import type { Db } from "../platform/db.ts";
import { NotFoundError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { findTenantById } from "../tenants/tenants.ts";
import { type Billing, type Entitlement, judgeEntitlement } from "./entitlement.ts";
import * as store from "./store.ts";
import { chooseSubscription, type Subscription } from "./subscription.ts";

/** What is known of each tenant's payments; a tenant that never came near Stripe is missing. */
export async function findBillings(db: Db, tenantIds: readonly TenantId[]): Promise<Map<TenantId, Billing>> {
  if (tenantIds.length === 0) return new Map();
  // One after the other: in a transaction they share a connection.
  const accounts = await store.listAccounts(db, tenantIds);
  const subscriptions = await store.listSubscriptions(db, tenantIds);
  const byTenant = Map.groupBy(subscriptions, (row) => row.tenantId);
  return new Map(
    accounts.map((account) => [account.tenantId, toBilling(account, byTenant.get(account.tenantId) ?? [])]),
  );
}

/** What `billingAsJson` has packed; undefined for a tenant that never came near Stripe. */
export function readBilling(packed: store.BillingJson | null): Billing | undefined {
  if (packed === null) return undefined;
  const { account, subscriptions } = store.parseBilling(packed);
  return toBilling(account, subscriptions);
}

/** What entitlement is judged by, from a tenant's rows. */
export function toBilling(
  { stripeCustomerId, blockedChargeId }: Pick<Billing, "stripeCustomerId" | "blockedChargeId">,
  subscriptions: readonly Subscription[],
): Billing {
  const subscription = chooseSubscription(subscriptions);
  const awaitingPayment = subscription?.firstPayment === "awaiting";
  return { stripeCustomerId, blockedChargeId, awaitingPayment, subscription };
}

export async function findBilling(db: Db, tenantId: TenantId): Promise<Billing | undefined> {
  return (await findBillings(db, [tenantId])).get(tenantId);
}

/** Whether the tenant may run at `now`, and why. @throws NotFoundError. */
export async function findEntitlement(db: Db, tenantId: TenantId, now: Date): Promise<Entitlement> {
  const tenant = await findTenantById(db, tenantId);
  if (tenant === undefined) throw new NotFoundError("tenant_not_found", `No tenant with the id ${tenantId}.`);
  const { billingExempt, trialEndsAt } = tenant;
  return judgeEntitlement({ billingExempt, trialEndsAt, billing: await findBilling(db, tenantId) }, now);
}
