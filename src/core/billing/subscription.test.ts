import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { readStripeNews } from "../adapters/stripe/stripe-event.ts";
import { checkoutEvent, type EventBody, invoiceEvent, subscriptionEvent } from "../testing/fakes/stripe-events.ts";
import { addNews, chooseSubscription, pricedAt, type Subscription } from "./subscription.ts";

const prices = { basic: "price_basic", plus: "price_plus" };
const T0 = 1_760_000_000;
const started = T0;

function read(events: readonly EventBody[], known?: Subscription): Subscription {
  const subscription = events.reduce((before: Subscription | undefined, event) => {
    const news = readStripeNews(event.type, event);
    assert.ok(news !== undefined && "subscriptionId" in news && news.kind !== "note");
    return addNews(before, news, { eventId: event.id, at: new Date(event.created * 1000) }, prices);
  }, known);
  assert.ok(subscription !== undefined);
  return subscription;
}

const life: EventBody[] = [
  subscriptionEvent({ type: "created", status: "incomplete", created: T0, started }),
  checkoutEvent({ created: T0 }),
  invoiceEvent({ type: "paid", created: T0 }),
  invoiceEvent({ type: "payment_succeeded", created: T0 }),
  subscriptionEvent({ status: "active", created: T0, started }),
  subscriptionEvent({ status: "active", created: T0 + 50, started, price: "price_plus", shape: "acacia" }),
  subscriptionEvent({ status: "past_due", created: T0 + 100, started, price: "price_plus" }),
  invoiceEvent({ type: "payment_failed", created: T0 + 100, nextPaymentAttempt: T0 + 150 }),
  invoiceEvent({ type: "payment_failed", created: T0 + 150, nextPaymentAttempt: null, shape: "acacia" }),
  invoiceEvent({ type: "paid", created: T0 + 160 }),
  subscriptionEvent({ status: "active", created: T0 + 160, started, price: "price_plus", cancelAtPeriodEnd: true }),
];
const end = subscriptionEvent({ type: "deleted", status: "canceled", created: T0 + 200, started, price: "price_plus" });

test("any order and repetition of a life's events ends in the same state", () => {
  for (const events of [life.slice(0, 5), life.slice(0, 9), life, [...life, end]]) {
    const truth = read(events);
    const orders = fc.shuffledSubarray([...events, ...events], { minLength: events.length * 2 });
    fc.assert(
      fc.property(orders, (order) => {
        assert.deepEqual(read(order), truth);
      }),
      { numRuns: 300 },
    );
  }
});

test("of two states of the same second the more final one is in force", () => {
  const active = subscriptionEvent({ status: "active", created: T0, started });
  const canceled = subscriptionEvent({ type: "deleted", status: "canceled", created: T0, started });
  assert.equal(read([canceled, active]).status, "canceled");
  assert.equal(read([active, canceled]).status, "canceled");
});

test("a subscription that ended stays ended, whatever clock says otherwise", () => {
  const later = subscriptionEvent({ status: "active", created: T0 + 900, started });
  assert.equal(read([end, later]).status, "canceled");
  assert.equal(read([later, end]).status, "canceled");
});

test("a delayed payment's news can't be undone by the checkout that announced it (F60)", () => {
  const unpaid = checkoutEvent({ created: T0, paymentStatus: "unpaid" });
  const failed = checkoutEvent({ type: "async_payment_failed", created: T0 + 9, paymentStatus: "unpaid" });
  const succeeded = checkoutEvent({ type: "async_payment_succeeded", created: T0 + 9 });
  assert.equal(read([unpaid]).firstPayment, "awaiting");
  for (const news of [failed, succeeded])
    assert.equal(read([news, unpaid]).firstPayment, read([unpaid, news]).firstPayment);
  assert.equal(read([unpaid, failed]).firstPayment, "failed");
  assert.equal(read([unpaid, succeeded]).firstPayment, "paid");
  assert.equal(read([unpaid, failed, invoiceEvent({ type: "paid", created: T0 + 99 })]).firstPayment, "paid");
});

test("of several prices ours counts, and a foreign one is kept to be shown", () => {
  const event = subscriptionEvent({ status: "active", created: T0, price: "price_plus" });
  const foreign = subscriptionEvent({ status: "active", created: T0, price: "price_custom" });
  const news = readStripeNews(event.type, event);
  assert.ok(news?.kind === "subscription");
  const source = { eventId: "evt_1", at: new Date(T0 * 1000) };
  const several = addNews(undefined, { ...news, priceIds: ["price_addon", "price_plus"] }, source, prices);
  assert.equal(several.priceId, "price_plus");
  assert.equal(read([foreign]).priceId, "price_custom");
});

function subscription(changes: Partial<Subscription>): Subscription {
  return { ...read([subscriptionEvent({ status: "active", created: T0, started })]), ...changes };
}

test("the subscription in best standing counts, the newest of equals (F66)", () => {
  const newer = new Date((T0 + 1000) * 1000);
  const old = subscription({ id: "sub_old" });
  const chosen = (changes: Partial<Subscription>, before = old) =>
    chooseSubscription([before, subscription({ id: "sub_new", startedAt: newer, ...changes })])?.id;
  assert.equal(chosen({}), "sub_new");
  assert.equal(chosen({ status: "incomplete" }), "sub_old");
  assert.equal(chosen({ firstPayment: "awaiting" }), "sub_old");
  assert.equal(chosen({ status: "canceled" }), "sub_old");
  assert.equal(chosen({ status: null, firstPayment: "paid" }), "sub_new");
  assert.equal(chosen({ status: "incomplete" }, { ...old, status: "canceled" }), "sub_new");
  assert.equal(chosen({ status: "canceled" }, { ...old, status: "canceled" }), "sub_new");
  assert.equal(chosen({ status: "past_due" }, { ...old, status: "unpaid" }), "sub_new");
  assert.equal(chooseSubscription([]), undefined);
});

test("no tier is raised before its first payment is settled (F67)", () => {
  assert.equal(pricedAt(subscription({})), "price_basic");
  assert.equal(pricedAt(subscription({ status: "past_due" })), "price_basic");
  assert.equal(pricedAt(subscription({ status: "incomplete" })), undefined);
  assert.equal(pricedAt(subscription({ firstPayment: "awaiting" })), undefined);
  assert.equal(pricedAt(subscription({ status: "incomplete_expired" })), undefined);
});
