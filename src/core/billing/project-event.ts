import { readStripeNews, type StripeNews } from "../adapters/stripe/stripe-event.ts";
import { writeAudit } from "../platform/audit.ts";
import { ConflictError } from "../platform/errors.ts";
import { parseTenantId, type TenantId } from "../platform/ids.ts";
import { findTenantById, lockTenant, setTier, type Tenant } from "../tenants/tenants.ts";
import { findBilling } from "./account.ts";
import { applyEffect, type BillingContext, judgeTenant } from "./apply.ts";
import { type Occasion, planStatusEffect } from "./effects.ts";
import type { Billing } from "./entitlement.ts";
import * as store from "./store.ts";
import type { StripeEventRow } from "./store.ts";
import { addNews, isEnded, type Prices, pricedAt } from "./subscription.ts";

export type ProjectionContext = BillingContext & { prices: Prices };

export type Outcome = { status: "projected"; tenantId: TenantId } | { status: "ignored" | "unmatched"; tenantId: null };

/**
 * Applies one event with everything that follows from it, in `ctx.db`'s transaction, which must hold the event's lane.
 * @throws ZodError for a body that is not what its type promises, ConflictError when the subscription is another tenant's.
 */
export async function projectEvent(ctx: ProjectionContext, event: StripeEventRow): Promise<Outcome> {
  const news = readStripeNews(event.type, JSON.parse(event.payload));
  if (news === undefined) return { status: "ignored", tenantId: null };
  const tenantId = await findSubject(ctx, news);
  if (tenantId === undefined) return { status: "unmatched", tenantId: null };
  const tenant = await lockTenant(ctx.db, tenantId);
  const before = await findBilling(ctx.db, tenantId);
  await recordNews(ctx, tenantId, news, event);
  const after = await findBilling(ctx.db, tenantId);
  if (!tenant.billingExempt) {
    await followTier(ctx, tenant, before, after);
    await followStatus(ctx, tenant, before, after);
  }
  return { status: "projected", tenantId };
}

/**
 * What we wrote into the metadata names the tenant; else a subscription that is known; else the customer, but then only
 * for a tenant that has no other subscription left: a customer's other subscriptions are no business of ours (F66).
 */
async function findSubject({ db }: ProjectionContext, news: StripeNews): Promise<TenantId | undefined> {
  for (const reference of news.tenantReferences) {
    const id = parseTenantId(reference);
    if (id !== undefined && (await findTenantById(db, id)) !== undefined) return id;
  }
  const known = await store.findSubscription(db, news.subscriptionId);
  if (known !== undefined) return known.tenantId;
  const candidates = news.customerId === undefined ? [] : await store.findTenantsByCustomer(db, news.customerId);
  const [candidate, another] = candidates;
  if (candidate === undefined || another !== undefined) return undefined;
  const current = (await findBilling(db, candidate))?.subscription;
  return current === undefined || isEnded(current) ? candidate : undefined;
}

async function recordNews(
  ctx: ProjectionContext,
  tenantId: TenantId,
  news: StripeNews,
  event: StripeEventRow,
): Promise<void> {
  const now = ctx.clock.now();
  const row = await store.findSubscription(ctx.db, news.subscriptionId);
  if (row !== undefined && row.tenantId !== tenantId) {
    throw new ConflictError(
      "subscription_taken",
      `The subscription ${row.id} belongs to tenant ${row.tenantId}, but the event names ${tenantId}. Correct its metadata in Stripe.`,
    );
  }
  const subscription = addNews(row, news, { eventId: event.id, at: event.createdAt }, ctx.prices);
  await store.saveCustomer(ctx.db, tenantId, undefined, now);
  await store.saveSubscription(ctx.db, tenantId, subscription, now);
  const current = (await findBilling(ctx.db, tenantId))?.subscription;
  if (current?.customerId) await store.saveCustomer(ctx.db, tenantId, current.customerId, now);
  // Events that came before this link, or that waited for another subscription to end, may have a tenant now.
  const linked = row === undefined || row.customerId !== subscription.customerId;
  const ended = isEnded(subscription) && (row === undefined || !isEnded(row));
  if (subscription.customerId !== null && (linked || ended))
    await store.reviveUnmatched(ctx.db, subscription.customerId, now);
}

async function followTier(
  ctx: ProjectionContext,
  tenant: Tenant,
  before: Billing | undefined,
  after: Billing | undefined,
) {
  const price = pricedAt(after?.subscription);
  // Only a change of plan moves the tier: what an operator set by hand stays until then.
  if (price === undefined || price === pricedAt(before?.subscription)) return;
  const known = price === ctx.prices.plus ? "plus" : price === ctx.prices.basic ? "basic" : undefined;
  if (known === undefined) {
    await writeAudit(ctx.db, {
      at: ctx.clock.now(),
      actor: ctx.actor,
      action: "billing.price-unknown",
      tenantId: tenant.id,
      reason: "The price is neither STRIPE_PRICE_BASIC nor STRIPE_PRICE_PLUS; the tier is basic.",
      detail: { warning: true, priceId: price },
    });
  }
  await setTier(ctx, tenant.id, known ?? "basic", `subscription priced at ${price}`);
}

async function followStatus(
  ctx: ProjectionContext,
  tenant: Tenant,
  before: Billing | undefined,
  after: Billing | undefined,
) {
  const now = ctx.clock.now();
  const was = judgeTenant(tenant, before, now);
  const is = judgeTenant(tenant, after, now);
  const effect = planStatusEffect(
    tenant,
    is,
    occasionOf(tenant, { before, after, began: is.entitled && !was.entitled }),
  );
  if (effect !== undefined) await applyEffect(ctx, tenant.id, effect);
}

function occasionOf(
  tenant: Tenant,
  change: { before: Billing | undefined; after: Billing | undefined; began: boolean },
): Occasion {
  const { before, after, began } = change;
  const is = after?.subscription;
  const was = before?.subscription;
  if (began) return "began";
  if (is?.status === "canceled" && (was?.id !== is.id || was.status !== "canceled")) return "ended";
  // A payment tries again what was given up; news of one that was made before it was given up does not.
  const paidAt = is?.lastPaidAt ?? undefined;
  const paidAnew =
    paidAt !== undefined && !(was?.lastPaidAt && was.lastPaidAt >= paidAt) && paidAt > tenant.statusChangedAt;
  return paidAnew ? "began" : "review";
}
