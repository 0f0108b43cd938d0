import { type Account, type Body, newId, now } from "./account.ts";

const MONTH_SECONDS = 30 * 86_400;
const DAY_SECONDS = 86_400;

type Metadata = Record<string, string>;

/** Bodies as Stripe makes them: every field that its own ones have and that somebody may look at. */
export function newPrice(account: Account, id: string, amountCents: number): Body {
  return {
    id,
    object: "price",
    active: true,
    billing_scheme: "per_unit",
    created: now(account),
    currency: "usd",
    livemode: false,
    lookup_key: null,
    metadata: {},
    nickname: null,
    product: `prod_of_${id}`,
    recurring: { interval: "month", interval_count: 1, meter: null, trial_period_days: null, usage_type: "licensed" },
    tax_behavior: "unspecified",
    type: "recurring",
    unit_amount: amountCents,
    unit_amount_decimal: String(amountCents),
  };
}

export function newCustomer(
  account: Account,
  { email, name, metadata }: { email: string | null; name: string | null; metadata: Metadata },
): Body {
  return {
    id: newId("cus"),
    object: "customer",
    address: null,
    balance: 0,
    created: now(account),
    currency: null,
    default_source: null,
    delinquent: false,
    description: null,
    discount: null,
    email,
    invoice_prefix: newId("X").slice(2, 10).toUpperCase(),
    invoice_settings: { custom_fields: null, default_payment_method: null, footer: null, rendering_options: null },
    livemode: false,
    metadata,
    name,
    phone: null,
    preferred_locales: [],
    shipping: null,
    tax_exempt: "none",
    test_clock: null,
  };
}

export type NewSession = {
  mode: string;
  customer: string | null;
  clientReferenceId: string | null;
  metadata: Metadata;
  price: Body | undefined;
  successUrl: string;
  cancelUrl: string | null;
};

export function newSession(account: Account, wanted: NewSession): Body {
  const id = newId("cs_test");
  const created = now(account);
  const amount = wanted.price?.["unit_amount"] ?? null;
  return {
    id,
    object: "checkout.session",
    allow_promotion_codes: null,
    amount_subtotal: amount,
    amount_total: amount,
    automatic_tax: { enabled: false, liability: null, provider: null, status: null },
    cancel_url: wanted.cancelUrl,
    client_reference_id: wanted.clientReferenceId,
    client_secret: null,
    created,
    currency: "usd",
    customer: wanted.customer,
    customer_creation: null,
    customer_details: null,
    customer_email: null,
    expires_at: created + DAY_SECONDS,
    invoice: null,
    livemode: false,
    locale: null,
    metadata: wanted.metadata,
    mode: wanted.mode,
    payment_intent: null,
    payment_link: null,
    payment_method_types: ["card", "sepa_debit"],
    payment_status: "unpaid",
    setup_intent: null,
    status: "open",
    submit_type: null,
    subscription: null,
    success_url: wanted.successUrl,
    total_details: { amount_discount: 0, amount_shipping: 0, amount_tax: 0 },
    ui_mode: "hosted",
    url: `https://checkout.stripe.com/c/pay/${id}`,
  };
}

export function newSubscription(
  account: Account,
  wanted: { customer: string; price: Body; status: string; metadata: Metadata },
): Body {
  const id = newId("sub");
  const created = now(account);
  return {
    id,
    object: "subscription",
    application: null,
    automatic_tax: { disabled_reason: null, enabled: false, liability: null },
    billing_cycle_anchor: created,
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
    cancellation_details: { comment: null, feedback: null, reason: null },
    collection_method: "charge_automatically",
    created,
    currency: "usd",
    customer: wanted.customer,
    days_until_due: null,
    default_payment_method: null,
    discounts: [],
    ended_at: null,
    items: {
      object: "list",
      data: [newItem(id, wanted.price, created)],
      has_more: false,
      total_count: 1,
      url: `/v1/subscription_items?subscription=${id}`,
    },
    latest_invoice: null,
    livemode: false,
    metadata: wanted.metadata,
    pause_collection: null,
    pending_setup_intent: null,
    schedule: null,
    start_date: created,
    status: wanted.status,
    trial_end: null,
    trial_start: null,
  };
}

/** What a subscription sells, for a period that begins at `start`, in Unix seconds. */
export function newItem(subscription: string, price: Body, start: number) {
  const { id, unit_amount: amount } = price;
  return {
    id: newId("si"),
    object: "subscription_item",
    created: start,
    current_period_end: start + MONTH_SECONDS,
    current_period_start: start,
    discounts: [],
    metadata: {},
    plan: { id, object: "plan", active: true, amount, currency: "usd", interval: "month", interval_count: 1 },
    price,
    quantity: 1,
    subscription,
    tax_rates: [],
  };
}

export function newInvoice(account: Account, subscription: Body, reason: string, amountCents: number): Body {
  const created = now(account);
  const id = newId("in");
  return {
    id,
    object: "invoice",
    amount_due: amountCents,
    amount_paid: 0,
    amount_remaining: amountCents,
    attempt_count: 0,
    attempted: false,
    auto_advance: true,
    billing_reason: reason,
    collection_method: "charge_automatically",
    created,
    currency: "usd",
    customer: subscription["customer"],
    lines: { object: "list", data: [], has_more: false, total_count: 0, url: `/v1/invoices/${id}/lines` },
    livemode: false,
    metadata: {},
    next_payment_attempt: null,
    parent: {
      quote_details: null,
      subscription_details: { metadata: subscription["metadata"], subscription: subscription.id },
      type: "subscription_details",
    },
    status: "open",
    status_transitions: { finalized_at: created, marked_uncollectible_at: null, paid_at: null, voided_at: null },
    subtotal: amountCents,
    total: amountCents,
  };
}

export function newCharge(account: Account, customer: unknown, amountCents: number): Body {
  return {
    id: newId("ch"),
    object: "charge",
    amount: amountCents,
    amount_captured: amountCents,
    amount_refunded: 0,
    captured: true,
    created: now(account),
    currency: "usd",
    customer,
    disputed: false,
    failure_code: null,
    livemode: false,
    metadata: {},
    paid: true,
    payment_intent: newId("pi"),
    payment_method: newId("pm"),
    refunded: false,
    status: "succeeded",
  };
}

export function newDispute(account: Account, charge: Body, status: string): Body {
  return {
    id: newId("du"),
    object: "dispute",
    amount: charge["amount"],
    charge: charge.id,
    created: now(account),
    currency: "usd",
    evidence_details: { due_by: now(account) + 7 * DAY_SECONDS, has_evidence: false, submission_count: 0 },
    is_charge_refundable: status.startsWith("warning_"),
    livemode: false,
    metadata: {},
    payment_intent: charge["payment_intent"],
    reason: "fraudulent",
    status,
  };
}
