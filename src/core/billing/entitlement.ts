import { addMs } from "../platform/clock.ts";
import { assertNever } from "../platform/errors.ts";
import type { Subscription } from "./subscription.ts";

/** What a tenant's payments have come to. */
export type Billing = {
  stripeCustomerId: string | null;
  /** A refunded or lost charge: nothing runs until another one pays, whatever the subscription says. */
  blockedChargeId: string | null;
  /** A completed checkout whose delayed payment has not arrived yet. */
  awaitingPayment: boolean;
  /** The one that counts, if there ever was one. */
  subscription: Subscription | undefined;
};

export type EntitlementFacts = { billingExempt: boolean; trialEndsAt: Date | null; billing: Billing | undefined };

/** `reason` is for operators and subscribers alike. */
export type Entitlement = { entitled: boolean; reason: string };

/** Stripe delivers late news for up to three days: so long an announced retry without news counts as still running. */
const RETRY_NEWS_MS = 3 * 86_400_000;

/**
 * The only judge of "may this tenant run". Whatever is not expressly allowed is refused (F55).
 */
export function judgeEntitlement({ billingExempt, trialEndsAt, billing }: EntitlementFacts, now: Date): Entitlement {
  if (billingExempt) return yes("exempt from billing");
  if (billing !== undefined && billing.blockedChargeId !== null) {
    return no(`the charge ${billing.blockedChargeId} was refunded or lost in a dispute`);
  }
  const judged = billing?.subscription === undefined ? undefined : judgeSubscription(billing.subscription, now);
  if (judged?.entitled) return judged;
  if (trialEndsAt !== null && trialEndsAt > now) return yes(`trial until ${day(trialEndsAt)}`);
  if (judged !== undefined) return judged;
  return no(trialEndsAt === null ? "no subscription" : `the trial ended on ${day(trialEndsAt)}`);
}

function judgeSubscription(subscription: Subscription, now: Date): Entitlement {
  const { status, firstPayment, customerDeletedAt } = subscription;
  if (status === "canceled") return no("the subscription ended");
  if (status === "incomplete_expired") return no("the first payment was never made");
  if (customerDeletedAt !== null) return no("the customer was deleted in Stripe");
  if (firstPayment === "awaiting") return no("the first payment has not arrived yet");
  if (firstPayment === "failed") return no("the first payment failed");
  switch (status) {
    case "active":
    case "trialing":
      return yes(describeLive(subscription));
    case "past_due":
      return judgeRetry(subscription, now);
    case "unpaid":
      return paidSince(subscription)
        ? yes("the open invoice was paid")
        : no("the invoice is unpaid and will not be tried again");
    case "paused":
      return no("the subscription is paused: its trial ended without a payment method");
    case "incomplete":
    case null:
      return firstPayment === "paid" ? yes("the checkout was paid") : no("the first payment has not arrived yet");
    default:
      return assertNever(status);
  }
}

function describeLive({ status, cancelAtPeriodEnd, currentPeriodEnd }: Subscription): string {
  const what = status === "trialing" ? "in the subscription's trial" : "subscription active";
  return cancelAtPeriodEnd && currentPeriodEnd !== null ? `${what}, ends on ${day(currentPeriodEnd)}` : what;
}

/** One declined card is not the end: Stripe tries again (F53). */
function judgeRetry({ paymentFailedAt, nextPaymentAttempt }: Subscription, now: Date): Entitlement {
  if (paymentFailedAt === null) return yes("the payment is overdue; Stripe will try again");
  if (nextPaymentAttempt === null) return no("the payment failed and will not be tried again");
  if (addMs(nextPaymentAttempt, RETRY_NEWS_MS) < now)
    return no(`no news of the payment retry of ${day(nextPaymentAttempt)}`);
  return yes(`the payment failed; Stripe tries again on ${day(nextPaymentAttempt)}`);
}

/** Paying the open invoice is what revives an unpaid subscription; its own event may come after the invoice's. */
function paidSince({ lastPaidAt, statusAsOf }: Subscription): boolean {
  return lastPaidAt !== null && statusAsOf !== null && lastPaidAt > statusAsOf;
}

function day(date: Date): string {
  return date.toISOString().slice(0, 10);
}

function yes(reason: string): Entitlement {
  return { entitled: true, reason };
}

function no(reason: string): Entitlement {
  return { entitled: false, reason };
}
