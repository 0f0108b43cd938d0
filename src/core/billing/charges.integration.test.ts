import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { sql } from "kysely";
import type { TenantId } from "../platform/ids.ts";
import { changeStatus, getTenant } from "../tenants/tenants.ts";
import { chargeEvent, customerDeletedEvent, disputeEvent } from "../testing/fakes/stripe-charge-events.ts";
import {
  checkoutEvent,
  type EventBody,
  invoiceEvent,
  stripeEvent,
  subscriptionEvent,
} from "../testing/fakes/stripe-events.ts";
import { findBilling, findEntitlement, sweepEntitlement, unblockTenant } from "./billing.ts";
import { openBillingStage, T0 } from "./test-setup.ts";

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(() => stage.reset());

const signal = new AbortController().signal;

async function newSubscriber(): Promise<TenantId> {
  const tenantId = await stage.newTenant();
  await stage.deliver(
    subscriptionEvent({ type: "created", status: "active", created: T0, tenantId }),
    checkoutEvent({ created: T0, tenantId }),
    invoiceEvent({ type: "paid", invoice: "in_first", created: T0, tenantId }),
  );
  const { db } = stage;
  await db
    .transaction()
    .execute((tx) => changeStatus({ ...stage.context(), db: tx }, tenantId, { to: "active", reason: "healthy" }));
  return tenantId;
}

async function stateOf(tenantId: TenantId) {
  const { status } = await getTenant(stage.db, tenantId);
  return [status, (await findBilling(stage.db, tenantId))?.blockedChargeId ?? null];
}

const renewed = (created: number, invoice: string): EventBody[] => [
  subscriptionEvent({ status: "active", created, started: T0 }),
  invoiceEvent({ type: "paid", invoice, created }),
];

test("partial refunds are recorded once each, and only a full one suspends (F62)", async () => {
  const tenantId = await newSubscriber();
  const part = chargeEvent({ created: T0 + 50, charged: T0, amountRefundedCents: 500 });
  await stage.deliver(part, part, chargeEvent({ created: T0 + 60, charged: T0, amountRefundedCents: 1500 }));
  assert.deepEqual(await stateOf(tenantId), ["active", null]);
  const [charge] = await stage.db.selectFrom("stripeCharges").selectAll().execute();
  assert.deepEqual([charge?.amountCents, charge?.amountRefundedCents, charge?.refundedAt], [2000, 1500, null]);
  await stage.deliver(chargeEvent({ created: T0 + 70, charged: T0 }));
  assert.deepEqual(await stateOf(tenantId), ["suspended", "ch_1"]);
  const { reason } = await findEntitlement(stage.db, tenantId, stage.clock.now());
  assert.equal(reason, "the charge ch_1 was refunded or lost in a dispute");
});

test("a full refund outlasts news of the subscription and of the payment it took back, and ends with another payment", async () => {
  const tenantId = await newSubscriber();
  await stage.deliver(chargeEvent({ created: T0 + 50, charged: T0 }));
  for (let time = 1; time <= 3; time += 1) {
    await stage.deliver(
      subscriptionEvent({ status: "active", created: T0 + 50 + time, started: T0 }),
      invoiceEvent({ id: `evt_again_${time}`, type: "paid", invoice: "in_first", created: T0 }),
    );
    await sweepEntitlement(stage.context(), signal);
  }
  assert.deepEqual(await stateOf(tenantId), ["suspended", "ch_1"]);
  await stage.deliver(...renewed(T0 + 100, "in_second"));
  assert.deepEqual(await stateOf(tenantId), ["active", null]);
});

test("a lost dispute blocks until an operator lifts it; an inquiry and one that is won do nothing", async () => {
  const tenantId = await newSubscriber();
  await stage.deliver(
    chargeEvent({ type: "succeeded", created: T0 }),
    disputeEvent({ type: "created", status: "warning_needs_response", created: T0 + 40 }),
    disputeEvent({ type: "closed", status: "won", charge: "ch_other", created: T0 + 50 }),
  );
  assert.deepEqual(await stateOf(tenantId), ["active", null]);
  await stage.deliver(
    disputeEvent({ type: "created", status: "needs_response", created: T0 + 60 }),
    disputeEvent({ type: "closed", status: "lost", created: T0 + 90 }),
  );
  assert.deepEqual(await stateOf(tenantId), ["suspended", "ch_1"]);
  assert.deepEqual(await unblockTenant(stage.context(), tenantId, "settled by bank transfer"), ["ch_1"]);
  assert.deepEqual(await stateOf(tenantId), ["active", null]);
  await stage.deliver(disputeEvent({ id: "evt_repeat", type: "closed", status: "lost", created: T0 + 90 }));
  assert.deepEqual(await stateOf(tenantId), ["active", null]);
  assert.deepEqual(await unblockTenant(stage.context(), tenantId, "again"), []);
});

test("a dispute that comes before anything ties its charge to a tenant waits for it", async () => {
  const tenantId = await newSubscriber();
  const { unmatched } = await stage.deliver(disputeEvent({ type: "closed", status: "lost", created: T0 + 90 }));
  assert.equal(unmatched, 1);
  await stage.deliver(chargeEvent({ type: "succeeded", created: T0 }));
  assert.deepEqual(await stateOf(tenantId), ["suspended", "ch_1"]);
});

test("a dispute that was left without a tenant while its charge became known is found with the next events", async () => {
  const tenantId = await newSubscriber();
  const lost = disputeEvent({ type: "closed", status: "lost", created: T0 + 90 });
  await stage.deliver(lost, chargeEvent({ type: "succeeded", created: T0 }));
  assert.deepEqual(await stateOf(tenantId), ["suspended", "ch_1"]);
  await unblockTenant(stage.context(), tenantId, "to begin anew");
  // As when both were applied at the same moment.
  await stage.db
    .updateTable("stripeEvents")
    .set({ status: "unmatched", tenantId: null })
    .where("id", "=", lost.id)
    .execute();
  await stage.deliver(invoiceEvent({ type: "paid", subscription: "sub_x", customer: "cus_x", created: T0 }));
  const left = await stage.db.selectFrom("stripeEvents").select("id").where("status", "=", "unmatched").execute();
  assert.equal(left.length, 1);
});

test("older shapes tie a charge to its invoice, and a refund of what no invoice asked for changes nothing", async () => {
  const tenantId = await newSubscriber();
  const single = chargeEvent({ created: T0 + 50, charged: T0, charge: "ch_shop", shape: "acacia", invoice: null });
  await stage.deliver(single);
  assert.deepEqual(await stateOf(tenantId), ["active", null]);
  const tied = { charge: "ch_1", shape: "acacia", invoice: "in_first" } as const;
  await stage.deliver(chargeEvent({ ...tied, created: T0 + 60, charged: T0 }));
  assert.deepEqual(await stateOf(tenantId), ["suspended", "ch_1"]);
});

test("an operator's suspension survives a refund and the payment that lifts it", async () => {
  const tenantId = await newSubscriber();
  await stage.db.transaction().execute((tx) =>
    changeStatus({ ...stage.context(), db: tx }, tenantId, {
      to: "suspended",
      suspendedBy: "operator",
      reason: "abuse",
    }),
  );
  await stage.deliver(chargeEvent({ created: T0 + 50, charged: T0 }));
  await stage.deliver(...renewed(T0 + 100, "in_second"));
  const { status, suspendedBy } = await getTenant(stage.db, tenantId);
  assert.deepEqual([status, suspendedBy], ["suspended", "operator"]);
});

test("a deleted customer is unlinked and suspended, late news changes nothing, and a new checkout begins anew", async () => {
  const tenantId = await newSubscriber();
  await stage.deliver(customerDeletedEvent({ created: T0 + 50 }));
  assert.deepEqual(await stateOf(tenantId), ["suspended", null]);
  assert.equal((await findBilling(stage.db, tenantId))?.stripeCustomerId, null);
  await stage.deliver(...renewed(T0 + 60, "in_late"));
  assert.deepEqual(await stateOf(tenantId), ["suspended", null]);
  assert.equal((await findBilling(stage.db, tenantId))?.stripeCustomerId, null);
  await stage.deliver(checkoutEvent({ created: T0 + 90, tenantId, subscription: "sub_2", customer: "cus_2" }));
  assert.deepEqual(await stateOf(tenantId), ["active", null]);
  assert.equal((await findBilling(stage.db, tenantId))?.stripeCustomerId, "cus_2");
});

test("what only informs is kept with its tenant and changes nothing", async () => {
  const tenantId = await newSubscriber();
  await stage.deliver(
    checkoutEvent({ type: "expired", created: T0 + 10, tenantId, paymentStatus: "unpaid" }),
    subscriptionEvent({ type: "trial_will_end", status: "active", created: T0 + 20, started: T0 }),
    invoiceEvent({ type: "payment_action_required", created: T0 + 30 }),
    invoiceEvent({ type: "payment_action_required", created: T0 + 31, shape: "acacia" }),
    stripeEvent("invoice.upcoming", { object: "invoice", customer: "cus_1" }, { created: T0 + 40 }),
  );
  const { rows } = await sql<{ type: string; status: string; tenantId: TenantId | null }>`
    SELECT type, status, tenant_id FROM stripe_events WHERE created_at > ${new Date(T0 * 1000)} ORDER BY created_at`.execute(
    stage.db,
  );
  assert.deepEqual(
    rows.map(({ type, status, tenantId: owner }) => [type, status, owner]),
    [
      ["checkout.session.expired", "projected", tenantId],
      ["customer.subscription.trial_will_end", "projected", tenantId],
      ["invoice.payment_action_required", "projected", tenantId],
      ["invoice.payment_action_required", "projected", tenantId],
      ["invoice.upcoming", "ignored", null],
    ],
  );
  assert.deepEqual(await stateOf(tenantId), ["active", null]);
});
