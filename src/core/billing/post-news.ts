import type { StripeNews, SubscriptionNews } from "../adapters/stripe/stripe-event.ts";
import { ConflictError } from "../platform/errors.ts";
import { parseTenantId, type TenantId } from "../platform/ids.ts";
import { addCharge, addDispute, addPayment, type Charge, findBlock } from "./block.ts";
import { billingOf, type Book, findOwner, type Page } from "./book.ts";
import { addNews, isEnded, type NewsSource, type Prices, type Subscription } from "./subscription.ts";

/** Lanes whose events found no tenant so far, and may find one now. */
export type Posted = { page: Page; revivedLanes: string[] };

/**
 * Whom news is about. What we wrote into the metadata names the tenant; else an object that is known; else the customer,
 * but then only for a tenant that has no other subscription left: a customer's other subscriptions are no business of
 * ours (F66). Only a customer that was deleted may have several.
 */
export function findSubjects(book: Book, news: StripeNews): TenantId[] {
  const ofCustomer = news.customerId === undefined ? [] : [...(book.customers.get(news.customerId) ?? [])];
  if (news.kind === "customer-deleted") return ofCustomer;
  const named = news.tenantReferences.map(parseTenantId).find((id) => id !== undefined && book.pages.has(id));
  const owner = named ?? findOwner(book, news);
  if (owner !== undefined) return [owner];
  const [candidate, another] = ofCustomer;
  if (candidate === undefined || another !== undefined) return [];
  return isCharge(news) || !hasCurrentSubscription(book, candidate) ? [candidate] : [];
}

/** News of what was paid or refunded: which subscription it was for is told by its invoice, if at all. */
function isCharge(news: StripeNews): boolean {
  return (
    news.kind === "charge" || news.kind === "dispute" || (news.kind === "note" && news.subscriptionId === undefined)
  );
}

function hasCurrentSubscription(book: Book, tenantId: TenantId): boolean {
  const page = book.pages.get(tenantId);
  const current = page && billingOf(page)?.subscription;
  return current !== undefined && !isGone(current);
}

function isGone(subscription: Subscription): boolean {
  return isEnded(subscription) || subscription.customerDeletedAt !== null;
}

/**
 * The tenant's page with `news` added; any order and repetition of the same news leads to the same page.
 * @throws ConflictError when the subscription is another tenant's.
 */
export function postNews(book: Book, page: Page, news: StripeNews, source: NewsSource, prices: Prices): Posted {
  switch (news.kind) {
    case "charge":
      return postCharge(page, addCharge(page.charges.get(news.charge.chargeId), news.charge, source.at));
    case "dispute":
      return postCharge(page, addDispute(page.charges.get(news.dispute.chargeId), news.dispute, source.at));
    case "customer-deleted":
      return { page: withoutCustomer(page, news.customerId, source.at), revivedLanes: [] };
    case "note":
      return { page, revivedLanes: [] };
    default:
      return postSubscription(book, page, news, source, prices);
  }
}

function postCharge(page: Page, charge: Charge): Posted {
  const charges = new Map(page.charges).set(charge.id, charge);
  // A dispute names its charge and no customer.
  return { page: judgeCharges({ ...page, charges }), revivedLanes: page.charges.has(charge.id) ? [] : [charge.id] };
}

function postSubscription(book: Book, page: Page, news: SubscriptionNews, source: NewsSource, prices: Prices): Posted {
  const owner = book.owners.get(news.subscriptionId);
  if (owner !== undefined && owner !== page.tenant.id) {
    throw new ConflictError(
      "subscription_taken",
      `The subscription ${news.subscriptionId} belongs to tenant ${owner}, but the event names ${page.tenant.id}. Correct its metadata in Stripe.`,
    );
  }
  const known = page.subscriptions.get(news.subscriptionId);
  const subscription = addNews(known, news, source, prices);
  const subscriptions = new Map(page.subscriptions).set(subscription.id, subscription);
  const { page: paid, revivedLanes } = postPayment({ ...page, subscriptions }, news, source);
  return {
    page: linkCustomer(judgeCharges(paid)),
    revivedLanes: [...revivedLanes, ...lanesOfLink(known, subscription)],
  };
}

function postPayment(page: Page, news: SubscriptionNews, source: NewsSource): Posted {
  if (news.kind !== "invoice-paid") return { page, revivedLanes: [] };
  const known = page.payments.get(news.payment.invoiceId);
  const payment = addPayment(known, news.subscriptionId, news.payment, source.at);
  if (payment === undefined) return { page, revivedLanes: [] };
  const isNewCharge = payment.chargeId !== null && known?.chargeId !== payment.chargeId;
  return {
    page: { ...page, payments: new Map(page.payments).set(payment.invoiceId, payment) },
    revivedLanes: isNewCharge && payment.chargeId !== null ? [payment.chargeId] : [],
  };
}

/** Events that came before this link, or that waited for another subscription to end, may have a tenant now. */
function lanesOfLink(known: Subscription | undefined, subscription: Subscription): string[] {
  const isLinked = known === undefined || known.customerId !== subscription.customerId;
  const hasEnded = isEnded(subscription) && (known === undefined || !isEnded(known));
  return subscription.customerId !== null && (isLinked || hasEnded) ? [subscription.customerId] : [];
}

function judgeCharges(page: Page): Page {
  const stripeCustomerId = page.account?.stripeCustomerId ?? null;
  const blockedChargeId = findBlock(page.charges.values(), [...page.payments.values()]);
  return { ...page, account: { stripeCustomerId, blockedChargeId } };
}

/** The customer of the subscription that counts is the tenant's. */
function linkCustomer(page: Page): Page {
  const current = billingOf(page)?.subscription;
  if (page.account === undefined || !current?.customerId || current.customerDeletedAt !== null) return page;
  return { ...page, account: { ...page.account, stripeCustomerId: current.customerId } };
}

function withoutCustomer(page: Page, customerId: string, at: Date): Page {
  const subscriptions = new Map(
    [...page.subscriptions].map(([id, row]) => [
      id,
      row.customerId === customerId ? { ...row, customerDeletedAt: row.customerDeletedAt ?? at } : row,
    ]),
  );
  if (page.account?.stripeCustomerId !== customerId) return { ...page, subscriptions };
  return { ...page, subscriptions, account: { ...page.account, stripeCustomerId: null } };
}
