import { createHash } from "node:crypto";
import Stripe from "stripe";

/** The two shapes in which endpoints still send bodies: before and since API version 2025-03-31. */
export type ApiShape = "acacia" | "basil";

const API_VERSIONS: Readonly<Record<ApiShape, string>> = { acacia: "2025-02-24.acacia", basil: "2025-06-30.basil" };
const MONTH_SECONDS = 30 * 86_400;

export type EventBody = {
  id: string;
  object: "event";
  api_version: string;
  created: number;
  data: { object: Record<string, unknown>; previous_attributes?: Record<string, unknown> };
  livemode: boolean;
  pending_webhooks: number;
  request: { id: string | null; idempotency_key: string | null };
  type: string;
};

/** Common to all builders. `created` is in Unix seconds; without an `id`, equal events get equal ids. */
export type EventOptions = { id?: string; created: number; shape?: ApiShape; tenantId?: string | undefined };

/** Any event around any object. */
export function stripeEvent(type: string, object: Record<string, unknown>, options: EventOptions): EventBody {
  const { id, created, shape = "basil" } = options;
  return {
    id: id ?? `evt_${digest(JSON.stringify([type, object, options]))}`,
    object: "event",
    api_version: API_VERSIONS[shape],
    created,
    data: { object },
    livemode: false,
    pending_webhooks: 1,
    request: { id: null, idempotency_key: null },
    type,
  };
}

export type SubscriptionOptions = EventOptions & {
  type?: "created" | "updated" | "deleted" | "paused" | "resumed" | "trial_will_end";
  subscription?: string;
  customer?: string;
  status: string;
  price?: string;
  /** When the subscription was made, in Unix seconds. */
  started?: number;
  cancelAtPeriodEnd?: boolean;
};

export function subscriptionEvent(options: SubscriptionOptions): EventBody {
  const {
    subscription = "sub_1",
    customer = "cus_1",
    status,
    price = "price_basic",
    created,
    shape = "basil",
  } = options;
  const { type = "updated", started = created, cancelAtPeriodEnd = false, tenantId } = options;
  const period = { current_period_start: started, current_period_end: started + MONTH_SECONDS };
  const object = {
    id: subscription,
    object: "subscription",
    automatic_tax: { enabled: false, liability: null },
    billing_cycle_anchor: started,
    cancel_at: cancelAtPeriodEnd ? period.current_period_end : null,
    cancel_at_period_end: cancelAtPeriodEnd,
    canceled_at: status === "canceled" ? created : null,
    collection_method: "charge_automatically",
    created: started,
    currency: "usd",
    ...(shape === "acacia" ? period : {}),
    customer,
    default_payment_method: null,
    discounts: [],
    ended_at: status === "canceled" ? created : null,
    items: {
      object: "list",
      data: [
        {
          id: `si_${digest(subscription)}`,
          object: "subscription_item",
          created: started,
          ...(shape === "basil" ? period : {}),
          metadata: {},
          plan: { id: price, object: "plan", active: true, amount: 2000, currency: "usd", interval: "month" },
          price: { id: price, object: "price", active: true, currency: "usd", type: "recurring", unit_amount: 2000 },
          quantity: 1,
          subscription,
        },
      ],
      has_more: false,
      total_count: 1,
      url: `/v1/subscription_items?subscription=${subscription}`,
    },
    latest_invoice: `in_${digest(subscription)}`,
    livemode: false,
    metadata: metadata(tenantId),
    pause_collection: null,
    schedule: null,
    start_date: started,
    status,
    trial_end: null,
    trial_start: null,
  };
  return stripeEvent(`customer.subscription.${type}`, object, options);
}

export type CheckoutOptions = EventOptions & {
  type?: "completed" | "async_payment_succeeded" | "async_payment_failed" | "expired";
  mode?: "subscription" | "payment" | "setup";
  paymentStatus?: "paid" | "unpaid" | "no_payment_required";
  subscription?: string;
  customer?: string;
  /** Written as `client_reference_id` only, as payment links do it; `tenantId` also goes into the metadata. */
  clientReferenceId?: string;
};

export function checkoutEvent(options: CheckoutOptions): EventBody {
  const {
    type = "completed",
    mode = "subscription",
    subscription = "sub_1",
    customer = "cus_1",
    created,
    tenantId,
  } = options;
  const object = {
    id: `cs_test_${digest(subscription)}`,
    object: "checkout.session",
    amount_subtotal: 2000,
    amount_total: 2000,
    cancel_url: null,
    client_reference_id: options.clientReferenceId ?? tenantId ?? null,
    created: created - 20,
    currency: "usd",
    customer,
    customer_details: { email: "subscriber@example.com", name: "A Subscriber", phone: null, tax_ids: [] },
    customer_email: null,
    expires_at: created + 86_400,
    invoice: mode === "subscription" ? `in_${digest(subscription)}` : null,
    livemode: false,
    metadata: metadata(tenantId),
    mode,
    payment_intent: mode === "payment" ? `pi_${digest(subscription)}` : null,
    payment_method_types: ["card", "sepa_debit"],
    payment_status: options.paymentStatus ?? "paid",
    status: type === "expired" ? "expired" : "complete",
    subscription: mode === "subscription" && type !== "expired" ? subscription : null,
    ui_mode: "hosted",
    url: null,
  };
  return stripeEvent(`checkout.session.${type}`, object, options);
}

export type InvoiceOptions = EventOptions & {
  type: "paid" | "payment_succeeded" | "payment_failed" | "payment_action_required";
  /** One for each subscription unless told. */
  invoice?: string;
  subscription?: string;
  customer?: string;
  /** Unix seconds; null: Stripe won't try again. */
  nextPaymentAttempt?: number | null;
  amountCents?: number;
  reason?: "subscription_create" | "subscription_cycle" | "subscription_update";
  /** What paid it: told before 2025-03-31 only. */
  charge?: string;
};

export function invoiceEvent(options: InvoiceOptions): EventBody {
  const { type, subscription = "sub_1", customer = "cus_1", created, shape = "basil", tenantId } = options;
  const { invoice = `in_${digest(subscription)}`, amountCents = 2000, reason = "subscription_cycle" } = options;
  const paid = type === "paid" || type === "payment_succeeded";
  const details = { metadata: metadata(tenantId) };
  const belonging =
    shape === "basil"
      ? {
          parent: {
            quote_details: null,
            subscription_details: { ...details, subscription },
            type: "subscription_details",
          },
        }
      : { charge: options.charge ?? null, subscription, subscription_details: details };
  const object = {
    id: invoice,
    object: "invoice",
    amount_due: amountCents,
    amount_paid: paid ? amountCents : 0,
    amount_remaining: paid ? 0 : amountCents,
    attempt_count: 1,
    attempted: true,
    billing_reason: reason,
    collection_method: "charge_automatically",
    created,
    currency: "usd",
    customer,
    customer_email: "subscriber@example.com",
    lines: {
      object: "list",
      data: [],
      has_more: false,
      total_count: 0,
      url: `/v1/invoices/${invoice}/lines`,
    },
    livemode: false,
    metadata: {},
    next_payment_attempt: options.nextPaymentAttempt ?? null,
    ...belonging,
    status: paid ? "paid" : "open",
    status_transitions: { finalized_at: created, paid_at: paid ? created : null, voided_at: null },
    subtotal: amountCents,
    total: amountCents,
  };
  return stripeEvent(`invoice.${type}`, object, options);
}

/** The body as Stripe sends it, and its `Stripe-Signature` header; `timestamp` in Unix seconds, now unless told. */
export function signStripeEvent(
  body: unknown,
  secret: string,
  timestamp?: number,
): { rawBody: Buffer; header: string } {
  const payload = JSON.stringify(body, undefined, 2);
  const options = timestamp === undefined ? { payload, secret } : { payload, secret, timestamp };
  return { rawBody: Buffer.from(payload), header: Stripe.webhooks.generateTestHeaderString(options) };
}

function metadata(tenantId: string | undefined): Record<string, string> {
  return tenantId === undefined ? {} : { tenant_id: tenantId };
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("base64url").replace(/[-_]/g, "x").slice(0, 24);
}
