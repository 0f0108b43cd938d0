import { z } from "zod";
import { type Account, add, type Body, change, emit, get, now } from "./account.ts";
import { newCharge, newDispute, newInvoice, newItem, newSubscription } from "./objects.ts";
import { invalid } from "./refusal.ts";

const items = z.looseObject({ data: z.array(z.looseObject({ price: z.looseObject({ id: z.string() }) })) });
const RETRY_SECONDS = 3 * 86_400;

/** Which subscription each session will make, and of what. */
export type Sales = Map<string, { price: Body | undefined; metadata: Record<string, string> }>;

/** How somebody pays: at once, by a method that takes days, or with a trial that costs nothing yet. */
export type Payment = "paid" | "unpaid" | "no_payment_required";

/** What happens on Stripe's page: the session is completed, and all that follows from it is made and told. */
export function completeSession(account: Account, sales: Sales, sessionId: string, payment: Payment): Body {
  const session = get(account, "checkout.session", sessionId);
  if (session["status"] !== "open") throw invalid(`The session ${sessionId} is ${String(session["status"])}.`);
  const details = {
    email: "subscriber@example.com",
    name: "A Subscriber",
    phone: null,
    tax_exempt: "none",
    tax_ids: [],
  };
  const completed = { status: "complete", payment_status: payment, customer_details: details, url: null };
  const sale = sales.get(sessionId);
  if (session["mode"] !== "subscription" || sale?.price === undefined) {
    const done = change(account, session, { ...completed, payment_intent: `pi_of_${sessionId}` });
    emit(account, "checkout.session.completed", done);
    return done;
  }
  const status = payment === "no_payment_required" ? "trialing" : "active";
  const wanted = { customer: String(session["customer"]), price: sale.price, status, metadata: sale.metadata };
  const subscription = add(account, newSubscription(account, wanted));
  const invoice = bill(account, subscription, "subscription_create", payment === "no_payment_required" ? 0 : undefined);
  const done = change(account, session, { ...completed, subscription: subscription.id, invoice: invoice.id });
  emit(account, "checkout.session.completed", done);
  emit(account, "customer.subscription.created", get(account, "subscription", subscription.id));
  if (payment !== "unpaid") payInvoice(account, invoice.id);
  return done;
}

/** How a payment that takes days ends. */
export function settleSession(account: Account, sessionId: string, end: "succeeded" | "failed"): void {
  const session = get(account, "checkout.session", sessionId);
  if (end === "failed") {
    emit(account, "checkout.session.async_payment_failed", session);
    return;
  }
  const paid = change(account, session, { payment_status: "paid" });
  payInvoice(account, String(session["invoice"]));
  emit(account, "checkout.session.async_payment_succeeded", paid);
}

function bill(account: Account, subscription: Body, reason: string, amountCents?: number): Body {
  const [item] = items.parse(subscription["items"]).data;
  const amount = amountCents ?? Number(item?.price["unit_amount"] ?? 0);
  const invoice = add(account, newInvoice(account, subscription, reason, amount));
  change(account, subscription, { latest_invoice: invoice.id });
  return invoice;
}

export function payInvoice(account: Account, invoiceId: string): void {
  const invoice = get(account, "invoice", invoiceId);
  const amount = Number(invoice["amount_due"]);
  if (amount > 0) {
    const charge = add(account, newCharge(account, invoice["customer"], amount));
    account.payments.push({ invoice: invoiceId, charge: charge.id, paymentIntent: String(charge["payment_intent"]) });
    emit(account, "charge.succeeded", charge);
  }
  const paid = change(account, invoice, {
    amount_paid: amount,
    amount_remaining: 0,
    attempt_count: Number(invoice["attempt_count"]) + 1,
    attempted: true,
    next_payment_attempt: null,
    status: "paid",
    status_transitions: { ...statusTransitions(invoice), paid_at: now(account) },
  });
  emit(account, "invoice.paid", paid);
  emit(account, "invoice.payment_succeeded", paid);
}

function statusTransitions(invoice: Body): Record<string, unknown> {
  return z.record(z.string(), z.unknown()).parse(invoice["status_transitions"]);
}

/** A new period that is paid for, or is not: then it is tried again later, or never. */
export function renewSubscription(account: Account, id: string, end: "paid" | "retrying" | "given-up"): Body {
  const before = get(account, "subscription", id);
  const [item] = items.parse(before["items"]).data;
  if (item === undefined) throw invalid(`${id} has no items.`);
  const renewed = setPrice(account, before, get(account, "price", item.price.id, "price"));
  const invoice = bill(account, renewed, "subscription_cycle");
  if (end === "paid") {
    payInvoice(account, invoice.id);
    return setStatus(account, id, "active");
  }
  const failed = change(account, invoice, {
    attempt_count: 1,
    attempted: true,
    next_payment_attempt: end === "retrying" ? now(account) + RETRY_SECONDS : null,
  });
  emit(account, "invoice.payment_failed", failed);
  return setStatus(account, id, end === "retrying" ? "past_due" : "unpaid");
}

/** What a subscription sells from now on. */
export function setPrice(account: Account, subscription: Body, price: Body): Body {
  const sold = z.looseObject({}).parse(subscription["items"]);
  return change(account, subscription, { items: { ...sold, data: [newItem(subscription.id, price, now(account))] } });
}

export function setStatus(account: Account, id: string, status: string): Body {
  const ends = status === "canceled" ? { canceled_at: now(account), ended_at: now(account) } : {};
  const changed = change(account, get(account, "subscription", id), { status, ...ends });
  emit(account, status === "canceled" ? "customer.subscription.deleted" : "customer.subscription.updated", changed);
  return changed;
}

/** Ends what the customer has; the customer is remembered as deleted. */
export function deleteCustomer(account: Account, id: string): Body {
  const customer = get(account, "customer", id);
  for (const body of account.objects.values()) {
    if (body.object === "subscription" && body["customer"] === id && body["status"] !== "canceled")
      setStatus(account, body.id, "canceled");
  }
  emit(account, "customer.deleted", customer);
  return change(account, customer, { deleted: true });
}

export function refundCharge(account: Account, id: string, amountCents?: number): void {
  const charge = get(account, "charge", id);
  const refunded = amountCents ?? Number(charge["amount"]);
  const changed = change(account, charge, { amount_refunded: refunded, refunded: refunded === charge["amount"] });
  emit(account, "charge.refunded", changed);
}

export function openDispute(account: Account, chargeId: string, status: string): Body {
  const charge = change(account, get(account, "charge", chargeId), { disputed: true });
  const dispute = add(account, newDispute(account, charge, status));
  emit(account, "charge.dispute.created", dispute);
  return dispute;
}

export function closeDispute(account: Account, id: string, status: "won" | "lost"): void {
  emit(account, "charge.dispute.closed", change(account, get(account, "dispute", id), { status }));
}
