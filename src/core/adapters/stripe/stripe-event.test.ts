import assert from "node:assert/strict";
import test from "node:test";
import { chargeEvent } from "../../testing/fakes/stripe-charge-events.ts";
import {
  type ApiShape,
  checkoutEvent,
  invoiceEvent,
  stripeEvent,
  subscriptionEvent,
} from "../../testing/fakes/stripe-events.ts";
import { readStripeNews } from "./stripe-event.ts";

const created = 1_760_000_000;
const tenantId = "0b0e1f0e-6f43-4f5c-9a53-3f4b8a0d8a11";
const SHAPES: ApiShape[] = ["acacia", "basil"];
const payment = {
  invoiceId: "in_1",
  chargeId: undefined,
  paymentIntentId: undefined,
  amountCents: 2000,
  currency: "usd",
  startsPeriod: true,
  paidAt: new Date(created * 1000),
};
const subject = { tenantReferences: [tenantId], subscriptionId: "sub_1", customerId: "cus_1" };

test("a subscription reads the same before and since 2025-03-31", () => {
  for (const shape of SHAPES) {
    const { type, ...body } = subscriptionEvent({
      created,
      shape,
      tenantId,
      status: "past_due",
      cancelAtPeriodEnd: true,
    });
    assert.deepEqual(readStripeNews(type, body), {
      kind: "subscription",
      ...subject,
      status: "past_due",
      priceIds: ["price_basic"],
      cancelAtPeriodEnd: true,
      currentPeriodEnd: new Date((created + 30 * 86_400) * 1000),
      startedAt: new Date(created * 1000),
    });
  }
});

test("an invoice reads the same before and since 2025-03-31", () => {
  for (const shape of SHAPES) {
    const failed = invoiceEvent({ type: "payment_failed", created, shape, tenantId, nextPaymentAttempt: created + 60 });
    assert.deepEqual(readStripeNews(failed.type, failed), {
      kind: "invoice-failed",
      ...subject,
      nextPaymentAttempt: new Date((created + 60) * 1000),
    });
    const paid = invoiceEvent({ type: "paid", invoice: "in_1", created, shape, tenantId });
    assert.deepEqual(readStripeNews(paid.type, paid), { kind: "invoice-paid", ...subject, payment });
  }
});

test("an invoice may have both shapes, or belong to a quote or to nothing", () => {
  const body = invoiceEvent({ type: "paid", invoice: "in_1", created, tenantId });
  const hybrid = {
    ...body,
    data: { object: { ...body.data.object, subscription: "sub_1", subscription_details: null } },
  };
  assert.deepEqual(readStripeNews(body.type, hybrid), { kind: "invoice-paid", ...subject, payment });
  for (const parent of [
    null,
    { type: "quote_details", quote_details: { quote: "qt_1" }, subscription_details: null },
  ]) {
    const other = { ...body, data: { object: { ...body.data.object, parent } } };
    assert.equal(readStripeNews(body.type, other), undefined);
  }
});

test("a checkout tells whether its payment has come, is awaited or has failed (F60, F67)", () => {
  const read = (options: Partial<Parameters<typeof checkoutEvent>[0]>) => {
    const body = checkoutEvent({ created, tenantId, ...options });
    const news = readStripeNews(body.type, body);
    assert.equal(news?.kind, "checkout");
    return news.payment;
  };
  assert.equal(read({ paymentStatus: "paid" }), "paid");
  assert.equal(read({ paymentStatus: "no_payment_required" }), "paid");
  assert.equal(read({ paymentStatus: "unpaid" }), "awaiting");
  assert.equal(read({ type: "async_payment_succeeded" }), "paid");
  assert.equal(read({ type: "async_payment_failed", paymentStatus: "unpaid" }), "failed");
});

test("a checkout that sells no subscription is none of ours (F61)", () => {
  for (const mode of ["payment", "setup"] as const) {
    const body = checkoutEvent({ created, tenantId, mode });
    assert.equal(readStripeNews(body.type, body), undefined);
  }
});

test("types that are not ours are passed over, whatever is in them", () => {
  assert.equal(readStripeNews("payout.paid", { data: 1 }), undefined);
  assert.equal(readStripeNews("constructor", {}), undefined);
});

test("a body that isn't what its type promises is an error, not a guess", () => {
  const body = subscriptionEvent({ created, status: "hibernating" });
  assert.throws(() => readStripeNews(body.type, body), { name: "ZodError" });
  assert.throws(() => readStripeNews("invoice.paid", stripeEvent("invoice.paid", {}, { created }).data), {
    name: "ZodError",
  });
});

test("a charge reads the same before and since 2025-03-31, and what no invoice asked for is only noted", () => {
  for (const shape of SHAPES) {
    const body = chargeEvent({ created, charged: created - 60, shape, invoice: "in_1", amountRefundedCents: 500 });
    const news = readStripeNews(body.type, body);
    assert.equal(news?.kind, "charge");
    assert.deepEqual(news.charge, {
      chargeId: "ch_1",
      invoiceId: shape === "acacia" ? "in_1" : undefined,
      paymentIntentId: "pi_of_ch_1",
      amountCents: 2000,
      amountRefundedCents: 500,
      isRefunded: false,
      chargedAt: new Date((created - 60) * 1000),
    });
  }
  const single = chargeEvent({ created, shape: "acacia", invoice: null });
  assert.equal(readStripeNews(single.type, single)?.kind, "note");
});
