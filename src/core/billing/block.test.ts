import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { addCharge, addDispute, addPayment, type Charge, findBlock, type Payment } from "./block.ts";

const T0 = Date.UTC(2026, 2, 1);
const at = (minutes: number) => new Date(T0 + minutes * 60_000);

type Fact = (book: { charges: Map<string, Charge>; payments: Map<string, Payment> }) => void;

const paid =
  (minutes: number, told: { invoice?: string; charge?: string; amount?: number; startsPeriod?: boolean } = {}): Fact =>
  ({ payments }) => {
    const { invoice = `in_${minutes}`, charge, amount = 2000, startsPeriod = true } = told;
    const news = { invoiceId: invoice, chargeId: charge, paymentIntentId: undefined, amountCents: amount };
    const rest = { currency: "usd", startsPeriod, paidAt: at(minutes) };
    const payment = addPayment(payments.get(invoice), "sub_1", { ...news, ...rest }, at(minutes));
    if (payment !== undefined) payments.set(invoice, payment);
  };

const refunded =
  (charge: string, charged: number, minutes: number, told: { cents?: number; invoice?: string } = {}): Fact =>
  ({ charges }) => {
    const { cents = 2000, invoice } = told;
    const news = { chargeId: charge, invoiceId: invoice, paymentIntentId: undefined, amountCents: 2000 };
    const rest = { amountRefundedCents: cents, isRefunded: cents === 2000, chargedAt: at(charged) };
    charges.set(charge, addCharge(charges.get(charge), { ...news, ...rest }, at(minutes)));
  };

const disputed =
  (charge: string, disputeStatus: string, minutes: number): Fact =>
  ({ charges }) => {
    const news = { chargeId: charge, paymentIntentId: undefined, disputeStatus };
    charges.set(charge, addDispute(charges.get(charge), news, at(minutes)));
  };

function blockAfter(facts: readonly Fact[]): string | null {
  const book = { charges: new Map<string, Charge>(), payments: new Map<string, Payment>() };
  for (const fact of facts) fact(book);
  return findBlock(book.charges.values(), [...book.payments.values()]);
}

const CASES: Record<string, { facts: Fact[]; block: string | null }> = {
  "a full refund of what pays for the period blocks": { facts: [paid(1), refunded("ch_1", 0, 10)], block: "ch_1" },
  "a partial refund is recorded only": { facts: [paid(1), refunded("ch_1", 0, 10, { cents: 1999 })], block: null },
  "partial refunds add up, as Stripe counts them, whichever is heard of first (F62)": {
    facts: [paid(1), refunded("ch_1", 0, 10, { cents: 1500 }), refunded("ch_1", 0, 20)],
    block: "ch_1",
  },
  "a refund of an earlier period's charge is recorded only": {
    facts: [paid(1), paid(50), refunded("ch_1", 0, 60)],
    block: null,
  },
  "a change of plan in between begins no period": {
    facts: [paid(1), paid(50, { startsPeriod: false, amount: 700 }), refunded("ch_1", 0, 60)],
    block: "ch_1",
  },
  "a later payment by another charge lifts it": { facts: [paid(1), refunded("ch_1", 0, 10), paid(20)], block: null },
  "its own payment does not, however late it is told": {
    facts: [paid(15, { charge: "ch_1" }), refunded("ch_1", 0, 10)],
    block: "ch_1",
  },
  "an invoice of nothing is no payment": {
    facts: [paid(1), refunded("ch_1", 0, 10), paid(20, { amount: 0 })],
    block: "ch_1",
  },
  "a charge for something else is recorded only": {
    facts: [paid(1, { charge: "ch_1" }), refunded("ch_shop", 5, 10)],
    block: null,
  },
  "an invoice tells its charge in older versions": {
    facts: [paid(30, { invoice: "in_a" }), refunded("ch_1", 0, 40, { invoice: "in_a" })],
    block: "ch_1",
  },
  "a lost dispute blocks, also of an old charge": {
    facts: [paid(1), paid(50), disputed("ch_1", "needs_response", 60), disputed("ch_1", "lost", 90)],
    block: "ch_1",
  },
  "a dispute that is won doesn't": {
    facts: [paid(1), disputed("ch_1", "needs_response", 60), disputed("ch_1", "won", 90)],
    block: null,
  },
  "an inquiry is recorded only": {
    facts: [paid(1), disputed("ch_1", "warning_needs_response", 60), disputed("ch_1", "warning_closed", 90)],
    block: null,
  },
  "what was paid before the loss doesn't lift it, what was paid after it does": {
    facts: [paid(1), disputed("ch_1", "lost", 60), paid(70)],
    block: null,
  },
  "another refund blocks anew": {
    facts: [paid(1), refunded("ch_1", 0, 10), paid(20), refunded("ch_2", 19, 30)],
    block: "ch_2",
  },
};

for (const [name, { facts, block }] of Object.entries(CASES)) {
  test(`${name}, in any order and however often it is told`, () => {
    const orders = fc.shuffledSubarray([...facts, ...facts], { minLength: facts.length * 2 });
    fc.assert(
      fc.property(orders, (order) => assert.equal(blockAfter(order), block)),
      { numRuns: 60 },
    );
  });
}

test("an operator's lifting holds whatever is told again of the same charge", () => {
  const charges = new Map<string, Charge>();
  refunded("ch_1", 0, 10)({ charges, payments: new Map() });
  const blocking = charges.get("ch_1");
  assert.ok(blocking);
  assert.equal(findBlock([blocking], []), "ch_1");
  charges.set("ch_1", { ...blocking, unblockedAt: at(20) });
  refunded("ch_1", 0, 30)({ charges, payments: new Map() });
  assert.equal(findBlock(charges.values(), []), null);
});
