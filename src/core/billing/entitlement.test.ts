import assert from "node:assert/strict";
import test from "node:test";
import { addMs } from "../platform/clock.ts";
import { type Billing, judgeEntitlement } from "./entitlement.ts";
import type { Subscription } from "./subscription.ts";

const now = new Date("2026-03-10T12:00:00Z");
const HOUR = 3_600_000;
const hours = (count: number) => addMs(now, count * HOUR);

const subscription: Subscription = {
  id: "sub_1",
  customerId: "cus_1",
  status: "active",
  priceId: "price_basic",
  cancelAtPeriodEnd: false,
  currentPeriodEnd: hours(240),
  startedAt: hours(-480),
  statusAsOf: hours(-48),
  statusEventId: "evt_1",
  firstPayment: null,
  paymentFailedAt: null,
  nextPaymentAttempt: null,
  lastPaidAt: null,
  invoiceAsOf: null,
  invoiceEventId: null,
  customerDeletedAt: null,
};
const failed = { status: "past_due", paymentFailedAt: hours(-1) } as const;

type Case = {
  when: string;
  exempt?: boolean;
  trial?: Date;
  subscription?: Partial<Subscription>;
  blocked?: boolean;
  runs: boolean;
  because: RegExp;
};

const cases: Case[] = [
  { when: "nothing is known", runs: false, because: /no subscription/ },
  { when: "exempt", exempt: true, runs: true, because: /exempt/ },
  { when: "exempt with a lost charge", exempt: true, blocked: true, runs: true, because: /exempt/ },
  { when: "a local trial runs", trial: hours(1), runs: true, because: /trial until 2026-03-10/ },
  { when: "a local trial ends this moment (F55)", trial: now, runs: false, because: /trial ended on 2026-03-10/ },
  { when: "a local trial ended (F55)", trial: hours(-24), runs: false, because: /trial ended on 2026-03-09/ },
  { when: "active", subscription: {}, runs: true, because: /active/ },
  { when: "trialing", subscription: { status: "trialing" }, runs: true, because: /trial/ },
  {
    when: "cancelled at the period's end",
    subscription: { cancelAtPeriodEnd: true },
    runs: true,
    because: /ends on 2026-03-20/,
  },
  {
    when: "active but the charge is blocked",
    subscription: {},
    blocked: true,
    runs: false,
    because: /ch_1 was refunded/,
  },
  { when: "a local trial but the charge is blocked", trial: hours(1), blocked: true, runs: false, because: /ch_1/ },
  {
    when: "past due without news of the invoice (F53)",
    subscription: { status: "past_due" },
    runs: true,
    because: /try again/,
  },
  {
    when: "declined, to be tried again (F53)",
    subscription: { ...failed, nextPaymentAttempt: hours(48) },
    runs: true,
    because: /2026-03-12/,
  },
  {
    when: "the retry is due, its news under way (F53)",
    subscription: { ...failed, nextPaymentAttempt: hours(-71) },
    runs: true,
    because: /tries again/,
  },
  {
    when: "no news of the retry for days (F55)",
    subscription: { ...failed, nextPaymentAttempt: hours(-73) },
    runs: false,
    because: /no news/,
  },
  { when: "declined for the last time (F65)", subscription: failed, runs: false, because: /not be tried again/ },
  {
    when: "declined for the last time in a local trial",
    subscription: failed,
    trial: hours(1),
    runs: true,
    because: /trial until/,
  },
  { when: "unpaid (F65)", subscription: { status: "unpaid" }, runs: false, because: /unpaid/ },
  {
    when: "unpaid, but paid since",
    subscription: { status: "unpaid", lastPaidAt: hours(-1) },
    runs: true,
    because: /was paid/,
  },
  {
    when: "unpaid, paid only before",
    subscription: { status: "unpaid", lastPaidAt: hours(-96) },
    runs: false,
    because: /unpaid/,
  },
  { when: "paused (F65)", subscription: { status: "paused" }, runs: false, because: /paused/ },
  { when: "incomplete", subscription: { status: "incomplete" }, runs: false, because: /not arrived/ },
  {
    when: "incomplete, its checkout paid",
    subscription: { status: "incomplete", firstPayment: "paid" },
    runs: true,
    because: /checkout was paid/,
  },
  {
    when: "incomplete and expired",
    subscription: { status: "incomplete_expired", firstPayment: "paid" },
    runs: false,
    because: /never made/,
  },
  {
    when: "only its checkout is known, paid",
    subscription: { status: null, firstPayment: "paid" },
    runs: true,
    because: /checkout was paid/,
  },
  {
    when: "only its checkout is known, unpaid (F67)",
    subscription: { status: null, firstPayment: "awaiting" },
    runs: false,
    because: /not arrived/,
  },
  {
    when: "active while its first payment is under way (F60, F67)",
    subscription: { firstPayment: "awaiting" },
    runs: false,
    because: /not arrived/,
  },
  {
    when: "active though its first payment failed (F60)",
    subscription: { firstPayment: "failed" },
    runs: false,
    because: /failed/,
  },
  {
    when: "active, its delayed payment has come (F60)",
    subscription: { firstPayment: "paid" },
    runs: true,
    because: /active/,
  },
  {
    when: "canceled",
    subscription: { status: "canceled", firstPayment: "paid", lastPaidAt: now },
    runs: false,
    because: /ended/,
  },
];

for (const { when, exempt = false, trial, subscription: changes, blocked = false, runs, because } of cases) {
  test(`a tenant ${runs ? "may" : "may not"} run when ${when}`, () => {
    const billing: Billing | undefined =
      changes === undefined && !blocked
        ? undefined
        : {
            stripeCustomerId: "cus_1",
            blockedChargeId: blocked ? "ch_1" : null,
            awaitingPayment: false,
            subscription: changes === undefined ? undefined : { ...subscription, ...changes },
          };
    const { entitled, reason } = judgeEntitlement({ billingExempt: exempt, trialEndsAt: trial ?? null, billing }, now);
    assert.equal(entitled, runs);
    assert.match(reason, because);
  });
}
