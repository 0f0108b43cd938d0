import type { SubscriptionNews, SubscriptionStatus } from "../adapters/stripe/stripe-event.ts";
import { assertNever } from "../platform/errors.ts";

/** What is known of one subscription. Times are Stripe's, not ours. */
export type Subscription = {
  id: string;
  customerId: string | null;
  /** Null while only its checkout or an invoice has been heard of. */
  status: SubscriptionStatus | null;
  priceId: string | null;
  cancelAtPeriodEnd: boolean;
  currentPeriodEnd: Date | null;
  startedAt: Date;
  statusAsOf: Date | null;
  statusEventId: string | null;
  /** Of the checkout: a delayed payment is awaited, has failed, or has come (or none was needed). */
  firstPayment: "awaiting" | "failed" | "paid" | null;
  paymentFailedAt: Date | null;
  nextPaymentAttempt: Date | null;
  lastPaidAt: Date | null;
  invoiceAsOf: Date | null;
  invoiceEventId: string | null;
  /** Nothing that comes later of it counts. */
  customerDeletedAt: Date | null;
};

/** The event that brings news: its id and Stripe's time of it. */
export type NewsSource = { eventId: string; at: Date };

export type Prices = { basic: string | undefined; plus: string | undefined };

/** How final a status is: of two states of the same second, the more final one is the later one. */
const FINALITY: Readonly<Record<SubscriptionStatus, number>> = {
  incomplete: 0,
  trialing: 1,
  active: 2,
  past_due: 3,
  paused: 4,
  unpaid: 5,
  incomplete_expired: 6,
  canceled: 7,
};

const PAYMENT_FINALITY = { awaiting: 0, failed: 1, paid: 2 } as const;

/** Stripe never brings a subscription back from these. */
export function isEnded(subscription: Pick<Subscription, "status">): boolean {
  return subscription.status === "canceled" || subscription.status === "incomplete_expired";
}

/**
 * What is known of a subscription once `news` is added. Any order and repetition of the same news leads to the same
 * result: older states never replace newer ones.
 */
export function addNews(
  known: Subscription | undefined,
  news: SubscriptionNews,
  source: NewsSource,
  prices: Prices,
): Subscription {
  const before = known ?? unheardOf(news.subscriptionId, source.at);
  const subscription = {
    ...before,
    customerId: news.customerId ?? before.customerId,
    startedAt: earlier(before.startedAt, news.kind === "subscription" ? news.startedAt : source.at),
  };
  switch (news.kind) {
    case "subscription":
      return isLaterStatus(subscription, news.status, source)
        ? withStatus(subscription, news, source, prices)
        : subscription;
    case "checkout":
      return { ...subscription, firstPayment: moreFinalPayment(subscription.firstPayment, news.payment) };
    case "invoice-paid":
      return withPaidInvoice(subscription, { ...source, at: news.payment.paidAt ?? source.at });
    case "invoice-failed":
      if (!isLaterInvoice(subscription, 0, source)) return subscription;
      return {
        ...subscription,
        paymentFailedAt: source.at,
        nextPaymentAttempt: news.nextPaymentAttempt ?? null,
        invoiceAsOf: source.at,
        invoiceEventId: source.eventId,
      };
    default:
      return assertNever(news);
  }
}

function unheardOf(id: string, at: Date): Subscription {
  return {
    id,
    customerId: null,
    status: null,
    priceId: null,
    cancelAtPeriodEnd: false,
    currentPeriodEnd: null,
    startedAt: at,
    statusAsOf: null,
    statusEventId: null,
    firstPayment: null,
    paymentFailedAt: null,
    nextPaymentAttempt: null,
    lastPaidAt: null,
    invoiceAsOf: null,
    invoiceEventId: null,
    customerDeletedAt: null,
  };
}

function withStatus(
  subscription: Subscription,
  news: SubscriptionNews & { kind: "subscription" },
  source: NewsSource,
  prices: Prices,
): Subscription {
  return {
    ...subscription,
    status: news.status,
    // One of ours among several items; an unknown one is kept to be shown.
    priceId: news.priceIds.find((id) => id === prices.basic || id === prices.plus) ?? news.priceIds[0] ?? null,
    cancelAtPeriodEnd: news.cancelAtPeriodEnd,
    currentPeriodEnd: news.currentPeriodEnd ?? null,
    statusAsOf: source.at,
    statusEventId: source.eventId,
  };
}

function withPaidInvoice(subscription: Subscription, source: NewsSource): Subscription {
  const paid: Subscription = {
    ...subscription,
    firstPayment: "paid",
    lastPaidAt: subscription.lastPaidAt === null ? source.at : later(subscription.lastPaidAt, source.at),
  };
  if (!isLaterInvoice(subscription, 1, source)) return paid;
  return {
    ...paid,
    paymentFailedAt: null,
    nextPaymentAttempt: null,
    invoiceAsOf: source.at,
    invoiceEventId: source.eventId,
  };
}

function isLaterStatus(known: Subscription, status: SubscriptionStatus, source: NewsSource): boolean {
  if (known.status === null || known.statusAsOf === null) return true;
  const ended = isEnded({ status });
  if (ended !== isEnded(known)) return ended;
  return isLater(
    { at: source.at, finality: FINALITY[status], eventId: source.eventId },
    { at: known.statusAsOf, finality: FINALITY[known.status], eventId: known.statusEventId ?? "" },
  );
}

function isLaterInvoice(known: Subscription, finality: 0 | 1, source: NewsSource): boolean {
  if (known.invoiceAsOf === null) return true;
  return isLater(
    { at: source.at, finality, eventId: source.eventId },
    { at: known.invoiceAsOf, finality: known.paymentFailedAt === null ? 1 : 0, eventId: known.invoiceEventId ?? "" },
  );
}

type Stamp = { at: Date; finality: number; eventId: string };

/** A total order, so that equal seconds can't make the result depend on arrival: the id decides where nothing else does. */
function isLater(a: Stamp, b: Stamp): boolean {
  if (a.at.getTime() !== b.at.getTime()) return a.at > b.at;
  if (a.finality !== b.finality) return a.finality > b.finality;
  return a.eventId > b.eventId;
}

function moreFinalPayment(a: Subscription["firstPayment"], b: "awaiting" | "failed" | "paid") {
  return a !== null && PAYMENT_FINALITY[a] > PAYMENT_FINALITY[b] ? a : b;
}

function earlier(a: Date, b: Date): Date {
  return a < b ? a : b;
}

function later(a: Date, b: Date): Date {
  return a > b ? a : b;
}

/** The subscription that counts among all that a tenant ever had: the one in best standing, the newest of equals. */
export function chooseSubscription(subscriptions: readonly Subscription[]): Subscription | undefined {
  return subscriptions.toSorted(
    (a, b) => standing(b) - standing(a) || b.startedAt.getTime() - a.startedAt.getTime() || (a.id < b.id ? 1 : -1),
  )[0];
}

const ENDED = 0;
const STOPPED = 1;
const UNPROVEN = 2;
const RETRYING = 3;
const GOOD = 4;

function standing({ status, firstPayment, customerDeletedAt }: Subscription): number {
  if (status === "canceled" || status === "incomplete_expired") return ENDED;
  if (customerDeletedAt !== null) return STOPPED;
  if (firstPayment === "awaiting" || firstPayment === "failed") return UNPROVEN;
  switch (status) {
    case "active":
    case "trialing":
      return GOOD;
    case "past_due":
      return RETRYING;
    case "unpaid":
    case "paused":
      return STOPPED;
    case "incomplete":
    case null:
      return firstPayment === "paid" ? GOOD : UNPROVEN;
    default:
      return assertNever(status);
  }
}

/** The price whose tier the tenant gets: only a subscription whose first payment is settled may raise one. */
export function pricedAt(subscription: Subscription | undefined): string | undefined {
  if (subscription === undefined || standing(subscription) < RETRYING) return undefined;
  return subscription.priceId ?? undefined;
}
