import { z } from "zod";
import { assertNever, UsageError } from "../../platform/errors.ts";
import { type ChargeFacts, type DisputeFacts, readCharge, readDispute } from "./stripe-charge.ts";
import type { StripeObjectKind } from "./stripe-api.ts";
import {
  amountCents,
  metadata,
  optionalSeconds,
  reference,
  seconds,
  stripeId,
  tenantReferences,
} from "./stripe-fields.ts";

/** What every snapshot event has, whatever its type. */
export type StripeEvent = {
  id: string;
  type: string;
  apiVersion: string | null;
  /** Whole seconds: it can't order events of the same second. */
  createdAt: Date;
  /** The Stripe customer that the event is about, else a dispute's charge, else its object, else the event itself. */
  lane: string;
};

const envelope = z.object({
  id: stripeId,
  type: stripeId,
  api_version: stripeId.nullish().catch(null),
  created: seconds,
  data: z.object({
    // Whatever can't name a lane leaves the event one of its own: it must be kept all the same.
    object: z.object({
      id: stripeId.optional().catch(undefined),
      customer: reference.catch(undefined),
      charge: reference.catch(undefined),
    }),
  }),
});

/**
 * Reads the plain JSON of an event (the SDK's objects are typed by one API version and are not plain data, F52).
 * @throws UsageError `event_invalid`.
 */
export function parseStripeEvent(json: unknown): StripeEvent {
  const result = envelope.safeParse(json);
  if (!result.success) {
    const fields = result.error.issues.map((issue) => issue.path.join(".") || "body").join(", ");
    throw new UsageError("event_invalid", `The body is not a Stripe event: see ${fields}.`);
  }
  const { id, type, api_version, created, data } = result.data;
  const { customer, charge } = data.object;
  const lane = customer ?? (type.startsWith("charge.dispute.") ? charge : undefined) ?? data.object.id ?? id;
  return { id, type, apiVersion: api_version ?? null, createdAt: created, lane };
}

export const SUBSCRIPTION_STATUSES = [
  "incomplete",
  "incomplete_expired",
  "trialing",
  "active",
  "past_due",
  "canceled",
  "unpaid",
  "paused",
] as const;
export type SubscriptionStatus = (typeof SUBSCRIPTION_STATUSES)[number];

/** Whom an event is about. `tenantReferences` are what we once wrote there, or what somebody else did: unchecked text. */
export type StripeSubject = { tenantReferences: string[]; customerId: string | undefined };
type OfSubscription = StripeSubject & { subscriptionId: string };

/** A paid invoice. Newer API versions tell neither charge nor payment intent. */
export type InvoicePayment = {
  invoiceId: string;
  chargeId: string | undefined;
  paymentIntentId: string | undefined;
  /** Undefined when the body doesn't say. */
  amountCents: number | undefined;
  currency: string | undefined;
  /** False for what is billed within a period, such as a change of plan. */
  startsPeriod: boolean;
  paidAt: Date | undefined;
};

/** What an event says about one subscription, in the same words for every API version. */
export type SubscriptionNews =
  | (OfSubscription & {
      kind: "subscription";
      status: SubscriptionStatus;
      priceIds: string[];
      cancelAtPeriodEnd: boolean;
      currentPeriodEnd: Date | undefined;
      startedAt: Date;
    })
  | (OfSubscription & { kind: "checkout"; payment: "awaiting" | "failed" | "paid" })
  | (OfSubscription & { kind: "invoice-paid"; payment: InvoicePayment })
  /** Without `nextPaymentAttempt`, Stripe won't try again. */
  | (OfSubscription & { kind: "invoice-failed"; nextPaymentAttempt: Date | undefined });

export type StripeNews =
  | SubscriptionNews
  | (StripeSubject & { kind: "charge"; charge: ChargeFacts })
  | (StripeSubject & { kind: "dispute"; dispute: DisputeFacts })
  | (StripeSubject & { kind: "customer-deleted"; customerId: string })
  /** Kept with its tenant, and changes nothing. */
  | (StripeSubject & { kind: "note"; subscriptionId: string | undefined });

const subscription = z.object({
  id: stripeId,
  customer: reference,
  metadata,
  status: z.enum(SUBSCRIPTION_STATUSES),
  created: seconds,
  cancel_at_period_end: z.boolean().default(false),
  // On the subscription before 2025-03-31, on its items since.
  current_period_end: optionalSeconds,
  items: z
    .object({
      data: z.array(
        z.object({
          price: z.object({ id: stripeId }).nullish(),
          plan: z.object({ id: stripeId }).nullish(),
          current_period_end: optionalSeconds,
        }),
      ),
    })
    .optional(),
});

const checkoutSession = z.object({
  mode: z.string(),
  payment_status: z.string(),
  client_reference_id: z.string().nullish(),
  customer: reference,
  subscription: reference,
  metadata,
});

const invoice = z.object({
  id: stripeId,
  customer: reference,
  status: z.string().nullish(),
  amount_paid: amountCents.nullish(),
  currency: z.string().max(10).nullish(),
  billing_reason: z.string().nullish(),
  status_transitions: z.object({ paid_at: optionalSeconds }).nullish(),
  next_payment_attempt: optionalSeconds,
  // Before 2025-03-31 …
  subscription: reference,
  subscription_details: z.object({ metadata }).nullish(),
  charge: reference,
  payment_intent: reference,
  // … and since.
  parent: z.object({ subscription_details: z.object({ subscription: reference, metadata }).nullish() }).nullish(),
});

/**
 * The news in the body of an event, or undefined when it is none of ours: another type, a checkout that sells no
 * subscription (F61), an invoice of none.
 * @throws ZodError when a body of a known type lacks what its type promises.
 */
export function readStripeNews(type: string, body: unknown): StripeNews | undefined {
  const kind = stripeObjectKind(type);
  if (kind === undefined) return undefined;
  const { object } = eventBody.parse(body).data;
  switch (kind) {
    case "subscription":
      return readSubscription(subscription.parse(object));
    case "checkout.session":
      return readCheckout(type, checkoutSession.parse(object));
    case "invoice":
      return readInvoice(type, invoice.parse(object));
    case "charge":
      return readChargeNews(object);
    case "dispute": {
      const { facts, ...subject } = readDispute(object);
      return { kind: "dispute", ...subject, customerId: undefined, dispute: facts };
    }
    case "customer":
      return { kind: "customer-deleted", tenantReferences: [], customerId: customer.parse(object).id };
    default:
      return assertNever(kind);
  }
}

const KINDS: Readonly<Record<string, StripeObjectKind>> = {
  "checkout.session.completed": "checkout.session",
  "checkout.session.async_payment_succeeded": "checkout.session",
  "checkout.session.async_payment_failed": "checkout.session",
  "checkout.session.expired": "checkout.session",
  "customer.subscription.created": "subscription",
  "customer.subscription.updated": "subscription",
  "customer.subscription.deleted": "subscription",
  "customer.subscription.paused": "subscription",
  "customer.subscription.resumed": "subscription",
  "customer.subscription.trial_will_end": "subscription",
  "invoice.paid": "invoice",
  "invoice.payment_succeeded": "invoice",
  "invoice.payment_failed": "invoice",
  "invoice.payment_action_required": "invoice",
  // Ties a charge to its customer before anybody disputes it.
  "charge.succeeded": "charge",
  "charge.refunded": "charge",
  "charge.dispute.created": "dispute",
  "charge.dispute.closed": "dispute",
  "customer.deleted": "customer",
};

/** What an event of this type carries in `data.object`; undefined for types that are not ours. */
export function stripeObjectKind(type: string): StripeObjectKind | undefined {
  return Object.hasOwn(KINDS, type) ? KINDS[type] : undefined;
}

const eventBody = z.object({ data: z.object({ object: z.unknown() }) });
const customer = z.object({ id: stripeId });

/** A charge that no invoice asked for pays no subscription: it is recorded only. */
function readChargeNews(object: unknown): StripeNews {
  const { facts, isForInvoice, ...subject } = readCharge(object);
  if (isForInvoice) return { kind: "charge", ...subject, charge: facts };
  return { kind: "note", ...subject, subscriptionId: undefined };
}

function readSubscription(object: z.output<typeof subscription>): StripeNews {
  const items = object.items?.data ?? [];
  const ends = [object.current_period_end, ...items.map((item) => item.current_period_end)].filter(
    (end) => end !== undefined,
  );
  return {
    kind: "subscription",
    tenantReferences: tenantReferences(object.metadata?.tenant_id),
    subscriptionId: object.id,
    customerId: object.customer,
    status: object.status,
    priceIds: items.map((item) => item.price?.id ?? item.plan?.id).filter((id) => id !== undefined),
    cancelAtPeriodEnd: object.cancel_at_period_end,
    // Items may have periods of their own: what is paid for lasts until the last one ends.
    currentPeriodEnd: ends.length === 0 ? undefined : new Date(Math.max(...ends.map((end) => end.getTime()))),
    startedAt: object.created,
  };
}

function readCheckout(type: string, object: z.output<typeof checkoutSession>): StripeNews | undefined {
  if (object.mode !== "subscription") return undefined;
  const subject = {
    tenantReferences: tenantReferences(object.metadata?.tenant_id, object.client_reference_id),
    customerId: object.customer,
  };
  const subscriptionId = object.subscription;
  if (type === "checkout.session.expired") return { kind: "note", ...subject, subscriptionId };
  if (subscriptionId === undefined) return undefined;
  return { kind: "checkout", ...subject, subscriptionId, payment: checkoutPayment(type, object.payment_status) };
}

function checkoutPayment(type: string, paymentStatus: string): "awaiting" | "failed" | "paid" {
  // `no_payment_required` is how a trial begins: there is nothing to wait for.
  if (paymentStatus === "paid" || paymentStatus === "no_payment_required") return "paid";
  if (type === "checkout.session.async_payment_failed") return "failed";
  return type === "checkout.session.async_payment_succeeded" ? "paid" : "awaiting";
}

function readInvoice(type: string, object: z.output<typeof invoice>): StripeNews | undefined {
  const details = object.parent?.subscription_details;
  const subscriptionId = details?.subscription ?? object.subscription;
  if (subscriptionId === undefined) return undefined;
  const subject = {
    tenantReferences: tenantReferences(details?.metadata?.tenant_id, object.subscription_details?.metadata?.tenant_id),
    subscriptionId,
    customerId: object.customer,
  };
  // What was declined when the event was made may be paid by the time it is read again.
  if (isPaidEvent(type) || object.status === "paid")
    return { kind: "invoice-paid", ...subject, payment: readPayment(object) };
  if (type === "invoice.payment_action_required") return { kind: "note", ...subject };
  return { kind: "invoice-failed", ...subject, nextPaymentAttempt: object.next_payment_attempt };
}

function isPaidEvent(type: string): boolean {
  return type === "invoice.paid" || type === "invoice.payment_succeeded";
}

function readPayment(object: z.output<typeof invoice>): InvoicePayment {
  return {
    invoiceId: object.id,
    chargeId: object.charge,
    paymentIntentId: object.payment_intent,
    amountCents: object.amount_paid ?? undefined,
    currency: object.currency ?? undefined,
    startsPeriod: object.billing_reason !== "subscription_update" && object.billing_reason !== "manual",
    paidAt: object.status_transitions?.paid_at,
  };
}
