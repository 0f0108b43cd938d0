import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { sql } from "kysely";
import type { TenantId } from "../platform/ids.ts";
import { chargeEvent } from "../testing/fakes/stripe-charge-events.ts";
import {
  checkoutEvent,
  type EventBody,
  invoiceEvent,
  stripeEvent,
  subscriptionEvent,
} from "../testing/fakes/stripe-events.ts";
import { listEvents, projectStripeEvents, pruneEvents, readEventPayload, replayEvents } from "./billing.ts";
import { openBillingStage, T0 } from "./test-setup.ts";

const DAY_MS = 86_400_000;
const signal = new AbortController().signal;

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(() => stage.reset());

/** Fifty events of one subscriber, in both shapes, ending refunded. */
function story(tenantId: TenantId, name: string): EventBody[] {
  const who = { subscription: `sub_${name}`, customer: `cus_${name}`, started: T0 };
  return [
    subscriptionEvent({ ...who, type: "created", status: "incomplete", created: T0, tenantId }),
    checkoutEvent({ ...who, created: T0, tenantId }),
    invoiceEvent({ ...who, type: "paid", invoice: `in_${name}_1`, created: T0 + 1 }),
    invoiceEvent({ ...who, type: "payment_succeeded", invoice: `in_${name}_1`, created: T0 + 1 }),
    subscriptionEvent({ ...who, status: "active", created: T0 + 1 }),
    invoiceEvent({ ...who, type: "payment_failed", invoice: `in_${name}_2`, created: T0 + 10, shape: "acacia" }),
    subscriptionEvent({ ...who, status: "past_due", created: T0 + 10, shape: "acacia" }),
    invoiceEvent({ ...who, type: "paid", invoice: `in_${name}_2`, created: T0 + 20 }),
    subscriptionEvent({ ...who, status: "active", created: T0 + 20, price: "price_plus" }),
    ...Array.from({ length: 20 }, (_, renewal) => [
      invoiceEvent({ ...who, type: "paid", invoice: `in_${name}_r${renewal}`, created: T0 + 100 + renewal }),
      subscriptionEvent({ ...who, status: "active", created: T0 + 100 + renewal, price: "price_plus" }),
    ]).flat(),
    chargeEvent({ charge: `ch_${name}`, customer: who.customer, charged: T0 + 119, created: T0 + 130 }),
  ];
}

/** Everything that billing and tenants consist of, with the jobs that are to follow. */
async function everything(): Promise<unknown> {
  const { rows } = await sql`
    SELECT (SELECT jsonb_agg(t ORDER BY id) FROM tenants t) AS tenants,
           (SELECT jsonb_agg(t ORDER BY tenant_id) FROM tenant_billing t) AS accounts,
           (SELECT jsonb_agg(t ORDER BY id) FROM stripe_subscriptions t) AS subscriptions,
           (SELECT jsonb_agg(t ORDER BY id) FROM stripe_charges t) AS charges,
           (SELECT jsonb_agg(t ORDER BY invoice_id) FROM stripe_payments t) AS payments,
           (SELECT jsonb_agg(t ORDER BY id) FROM audit_log t WHERE tenant_id IS NOT NULL) AS audit,
           (SELECT jsonb_agg(key ORDER BY key) FROM graphile_worker.jobs WHERE key LIKE 'converge:%') AS jobs`.execute(
    stage.db,
  );
  return rows;
}

test("10,000 events that are replayed change nothing", async () => {
  for (let tenant = 0; tenant < 200; tenant += 1) await stage.accept(...story(await stage.newTenant(), String(tenant)));
  assert.deepEqual(await projectStripeEvents(stage.context(), signal), {
    projected: 10_000,
    ignored: 0,
    unmatched: 0,
    failed: 0,
  });
  const blocked = await stage.db
    .selectFrom("tenantBilling")
    .select("tenantId")
    .where("blockedChargeId", "is not", null)
    .execute();
  assert.equal(blocked.length, 200);
  const truth = await everything();
  stage.clock.advance(DAY_MS);
  assert.equal((await replayEvents(stage.context(), {}, "to be sure")).length, 10_000);
  assert.equal((await projectStripeEvents(stage.context(), signal)).projected, 10_000);
  assert.deepEqual(await everything(), truth);
});

test("events are chosen by tenant, type, status and time, newest first, and never show their payload", async () => {
  const tenantId = await stage.newTenant();
  await stage.deliver(...story(tenantId, "one"));
  stage.clock.advance(DAY_MS);
  const since = stage.clock.now();
  await stage.deliver(invoiceEvent({ type: "paid", subscription: "sub_x", customer: "cus_x", created: T0 }));
  const list = async (selection: Parameters<typeof listEvents>[1]) => (await listEvents(stage.db, selection, 3)).total;
  assert.equal(await list({ tenantId }), 50);
  assert.equal(await list({ type: "invoice.paid" }), 23);
  assert.equal(await list({ tenantId, type: "invoice.paid" }), 22);
  assert.equal(await list({ status: "unmatched" }), 1);
  assert.equal(await list({ since }), 1);
  assert.equal(await list({ until: since }), 50);
  const { events, total } = await listEvents(stage.db, {}, 3);
  assert.deepEqual([events.length, total, events[0]?.status], [3, 51, "unmatched"]);
  assert.ok(!JSON.stringify(events).includes("subscriber@example.com"));
});

test("reading a payload leaves a line in the audit log", async () => {
  const event = invoiceEvent({ type: "paid", created: T0 });
  await stage.deliver(event);
  assert.deepEqual(JSON.parse(await readEventPayload(stage.context(), event.id)), event);
  const audit = await stage.db.selectFrom("auditLog").select(["action", "detail"]).execute();
  assert.deepEqual(audit, [{ action: "stripe-event.read", detail: { id: event.id } }]);
});

test("an unmatched event that is replayed finds the tenant that there is by now", async () => {
  const paid = invoiceEvent({ type: "paid", created: T0 });
  await stage.deliver(paid);
  const tenantId = await stage.newTenant();
  await stage.db
    .insertInto("tenantBilling")
    .values({ tenantId, stripeCustomerId: "cus_1", updatedAt: new Date() })
    .execute();
  assert.deepEqual(await replayEvents(stage.context(), { ids: [paid.id, "evt_none"] }, undefined), [paid.id]);
  const { rows } = await sql`SELECT FROM graphile_worker.jobs WHERE key = 'stripe.project'`.execute(stage.db);
  assert.equal(rows.length, 1);
  assert.equal((await projectStripeEvents(stage.context(), signal)).projected, 1);
});

test("what was applied or ignored is forgotten after 90 days; what found no tenant or failed never is", async () => {
  const tenantId = await stage.newTenant();
  const old = [
    checkoutEvent({ created: T0, tenantId }),
    stripeEvent("payout.paid", { object: "payout" }, { created: T0 }),
    invoiceEvent({ type: "paid", subscription: "sub_x", customer: "cus_x", created: T0 }),
  ];
  await stage.deliver(...old);
  await stage.accept(invoiceEvent({ id: "evt_f", type: "paid", created: T0 }));
  await stage.db.updateTable("stripeEvents").set({ status: "failed" }).where("id", "=", "evt_f").execute();
  stage.clock.advance(90 * DAY_MS);
  await stage.accept(subscriptionEvent({ id: "evt_new", status: "active", created: T0 + 9, tenantId }));
  await pruneEvents(stage.context(), signal);
  assert.equal((await listEvents(stage.db, {}, 10)).total, 5);
  stage.clock.advance(1);
  await pruneEvents(stage.context(), signal);
  const { events } = await listEvents(stage.db, {}, 10);
  assert.deepEqual(events.map(({ status }) => status).sort(), ["failed", "pending", "unmatched"]);
});
