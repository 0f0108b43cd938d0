import { z } from "zod";
import { UsageError } from "../../platform/errors.ts";

/** What every snapshot event has, whatever its type. */
export type StripeEvent = {
  id: string;
  type: string;
  apiVersion: string | null;
  /** Whole seconds: it can't order events of the same second. */
  createdAt: Date;
  /** The Stripe customer that the event is about, else its object, else the event itself. */
  lane: string;
};

/** Printable, so that it fits a column and a terminal; Stripe's own limit is 255. */
const stripeId = z.string().regex(/^[\x21-\x7e]{1,255}$/, "is not an id");
/** A related object comes as its id, or whole when the endpoint expands it. */
const reference = z
  .union([stripeId, z.object({ id: stripeId }).transform(({ id }) => id), z.null()])
  .optional()
  .transform((id) => id ?? undefined);
const metadata = z.object({ tenant_id: z.string().optional() }).nullish();
/** Until the year 9999: beyond it PostgreSQL and JavaScript no longer write times alike. */
const seconds = z
  .int()
  .min(0)
  .max(253_402_300_799)
  .transform((value) => new Date(value * 1000));
const optionalSeconds = seconds.nullish().transform((date) => date ?? undefined);

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
  const { customer } = data.object;
  return { id, type, apiVersion: api_version ?? null, createdAt: created, lane: customer ?? data.object.id ?? id };
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
export type StripeSubject = {
  tenantReferences: string[];
  subscriptionId: string;
  customerId: string | undefined;
};

/** What an event says about one subscription, in the same words for every API version. */
export type StripeNews =
  | (StripeSubject & {
      kind: "subscription";
      status: SubscriptionStatus;
      priceIds: string[];
      cancelAtPeriodEnd: boolean;
      currentPeriodEnd: Date | undefined;
      startedAt: Date;
    })
  | (StripeSubject & { kind: "checkout"; payment: "awaiting" | "failed" | "paid" })
  | (StripeSubject & { kind: "invoice-paid" })
  /** Without `nextPaymentAttempt`, Stripe won't try again. */
  | (StripeSubject & { kind: "invoice-failed"; nextPaymentAttempt: Date | undefined });

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
  customer: reference,
  next_payment_attempt: optionalSeconds,
  // Before 2025-03-31 …
  subscription: reference,
  subscription_details: z.object({ metadata }).nullish(),
  // … and since.
  parent: z.object({ subscription_details: z.object({ subscription: reference, metadata }).nullish() }).nullish(),
});

/**
 * The news in the body of an event, or undefined when it is none of ours: another type, a checkout that sells no
 * subscription (F61), an invoice of none.
 * @throws ZodError when a body of a known type lacks what its type promises.
 */
export function readStripeNews(type: string, body: unknown): StripeNews | undefined {
  switch (type) {
    case "customer.subscription.created":
    case "customer.subscription.updated":
    case "customer.subscription.deleted":
    case "customer.subscription.paused":
    case "customer.subscription.resumed":
      return readSubscription(objectOf(body, subscription));
    case "checkout.session.completed":
    case "checkout.session.async_payment_succeeded":
    case "checkout.session.async_payment_failed":
      return readCheckout(type, objectOf(body, checkoutSession));
    case "invoice.paid":
    case "invoice.payment_succeeded":
    case "invoice.payment_failed":
      return readInvoice(type, objectOf(body, invoice));
    default:
      return undefined;
  }
}

const eventBody = z.object({ data: z.object({ object: z.unknown() }) });

function objectOf<Schema extends z.ZodType>(body: unknown, schema: Schema): z.output<Schema> {
  return schema.parse(eventBody.parse(body).data.object);
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
  if (object.mode !== "subscription" || object.subscription === undefined) return undefined;
  return {
    kind: "checkout",
    tenantReferences: tenantReferences(object.metadata?.tenant_id, object.client_reference_id),
    subscriptionId: object.subscription,
    customerId: object.customer,
    payment: checkoutPayment(type, object.payment_status),
  };
}

function checkoutPayment(type: string, paymentStatus: string): "awaiting" | "failed" | "paid" {
  if (type === "checkout.session.async_payment_failed") return "failed";
  if (type === "checkout.session.async_payment_succeeded") return "paid";
  // `no_payment_required` is how a trial begins: there is nothing to wait for.
  return paymentStatus === "paid" || paymentStatus === "no_payment_required" ? "paid" : "awaiting";
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
  if (type !== "invoice.payment_failed") return { kind: "invoice-paid", ...subject };
  return { kind: "invoice-failed", ...subject, nextPaymentAttempt: object.next_payment_attempt };
}

function tenantReferences(...texts: (string | null | undefined)[]): string[] {
  return texts.filter((text) => typeof text === "string");
}
