import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import type { TenantId } from "../platform/ids.ts";
import { changeStatus, getTenant, listTenantEvents, lockTenant } from "../tenants/tenants.ts";
import { chargeEvent } from "../testing/fakes/stripe-charge-events.ts";
import { checkoutEvent, type EventBody, invoiceEvent, subscriptionEvent } from "../testing/fakes/stripe-events.ts";
import { readRecords } from "./book-store.ts";
import { openBillingStage, T0 } from "./test-setup.ts";

/** How many orders; thousands by OPENCLAW_TEST_LIVES. */
const LIVES = Number(process.env["OPENCLAW_TEST_LIVES"] ?? 200);
/** Lived through together, each in its own order. */
const TOGETHER = 50;
const CHUNKS = 4;

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());

/** Trial, paid, declined, tried again, paid, upgraded, cancelled, returned: in both shapes, and as Stripe orders it. */
function lifeOf(tenantId: TenantId, name: string): EventBody[] {
  const first = { subscription: `sub_${name}_1`, customer: `cus_${name}`, started: T0 };
  const second = { subscription: `sub_${name}_2`, customer: `cus_${name}`, started: T0 + 900 };
  const invoice = (number: number) => `in_${name}_${number}`;
  const old = { shape: "acacia" } as const;
  return [
    subscriptionEvent({ ...first, type: "created", status: "trialing", created: T0 }),
    checkoutEvent({ ...first, created: T0, clientReferenceId: tenantId, paymentStatus: "no_payment_required" }),
    invoiceEvent({
      ...first,
      type: "paid",
      invoice: invoice(0),
      amountCents: 0,
      created: T0,
      reason: "subscription_create",
    }),
    subscriptionEvent({ ...first, type: "trial_will_end", status: "trialing", created: T0 + 50 }),
    invoiceEvent({ ...first, type: "paid", invoice: invoice(1), created: T0 + 100 }),
    subscriptionEvent({ ...first, status: "active", created: T0 + 100, ...old }),
    invoiceEvent({
      ...first,
      type: "payment_failed",
      invoice: invoice(2),
      created: T0 + 200,
      nextPaymentAttempt: T0 + 300,
    }),
    subscriptionEvent({ ...first, status: "past_due", created: T0 + 200 }),
    invoiceEvent({
      ...first,
      type: "payment_failed",
      invoice: invoice(2),
      created: T0 + 300,
      nextPaymentAttempt: null,
      ...old,
    }),
    invoiceEvent({ ...first, type: "paid", invoice: invoice(2), created: T0 + 400, ...old, charge: `ch_${name}_2` }),
    invoiceEvent({
      ...first,
      type: "payment_succeeded",
      invoice: invoice(2),
      created: T0 + 400,
      ...old,
      charge: `ch_${name}_2`,
    }),
    subscriptionEvent({ ...first, status: "active", created: T0 + 400 }),
    subscriptionEvent({ ...first, status: "active", created: T0 + 500, price: "price_plus" }),
    invoiceEvent({
      ...first,
      type: "paid",
      invoice: invoice(3),
      amountCents: 700,
      created: T0 + 500,
      reason: "subscription_update",
    }),
    chargeEvent({
      charge: `ch_${name}_2`,
      customer: first.customer,
      charged: T0 + 399,
      created: T0 + 550,
      amountRefundedCents: 300,
    }),
    subscriptionEvent({ ...first, status: "active", created: T0 + 600, price: "price_plus", cancelAtPeriodEnd: true }),
    subscriptionEvent({ ...first, type: "deleted", status: "canceled", created: T0 + 700, price: "price_plus" }),
    checkoutEvent({ ...second, created: T0 + 900, tenantId }),
    subscriptionEvent({ ...second, type: "created", status: "active", created: T0 + 900, tenantId }),
    invoiceEvent({ ...second, type: "paid", invoice: invoice(4), created: T0 + 901 }),
  ];
}

/** What the orchestrator does meanwhile: whatever is to come up or go does so. */
async function settle(tenantId: TenantId): Promise<void> {
  await stage.db.transaction().execute(async (tx) => {
    const ctx = { ...stage.context(), db: tx };
    let tenant = await lockTenant(tx, tenantId);
    if (tenant.status === "deprovisioning") {
      const { provisionWhenDeleted } = tenant;
      tenant = await changeStatus(ctx, tenantId, { to: "deleted", reason: "gone", retentionDays: 30 });
      if (provisionWhenDeleted) tenant = await changeStatus(ctx, tenantId, { to: "provisioning", reason: "returned" });
    }
    if (tenant.status === "provisioning") await changeStatus(ctx, tenantId, { to: "active", reason: "healthy" });
  });
}

let lived = 0;

/** Lives through many lives at once, each in its own order, and gives where each of them ended. */
async function liveThrough(orders: readonly (readonly number[])[]) {
  const lives = await Promise.all(
    orders.map(async (order) => {
      const tenantId = await stage.newTenant();
      const name = `life${++lived}`;
      return { tenantId, name, order, events: lifeOf(tenantId, name) };
    }),
  );
  for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
    const due = lives.flatMap(({ order, events }) => {
      const size = Math.ceil(order.length / CHUNKS);
      return order.slice(chunk * size, (chunk + 1) * size).flatMap((index) => events[index] ?? []);
    });
    const { failed } = await stage.deliver(...due);
    assert.equal(failed, 0);
    for (const { tenantId } of lives) await settle(tenantId);
  }
  return Promise.all(lives.map(async ({ tenantId, name }) => endOf(tenantId, name)));
}

async function endOf(tenantId: TenantId, name: string) {
  const { status, tier, suspendedBy, provisionWhenDeleted } = await getTenant(stage.db, tenantId);
  const records = await readRecords(stage.db, [tenantId]);
  const begun = (await listTenantEvents(stage.db, tenantId, 100)).filter(
    ({ detail }) => (detail as { to?: string }).to === "provisioning",
  ).length;
  // Ids differ from life to life; of the rest, everything must be the same.
  const rows = JSON.stringify(records, (key, value: unknown) => (key === "invoiceId" ? undefined : value))
    .replaceAll(name, "life")
    .replaceAll(tenantId, "tenant")
    .replaceAll(/evt_\w+/g, "evt");
  const sorted = Object.entries(JSON.parse(rows) as Record<string, object[]>).map(([table, list]) => [
    table,
    list.map((row) => JSON.stringify(row)).sort(),
  ]);
  return { end: { status, tier, suspendedBy, provisionWhenDeleted, sorted }, begun };
}

test("a life's events in any order, repeated and late, end where the true order ends, and begin nothing more often", async () => {
  const inOrder = lifeOf("x" as TenantId, "x").map((_, index) => index);
  const [truth] = await liveThrough([inOrder]);
  assert.deepEqual([truth?.end.status, truth?.end.tier, truth?.begun], ["active", "basic", 2]);
  const order = fc.shuffledSubarray([...inOrder, ...inOrder], { minLength: inOrder.length * 2 });
  await fc.assert(
    fc.asyncProperty(fc.array(order, { minLength: TOGETHER, maxLength: TOGETHER }), async (orders) => {
      for (const { end, begun } of await liveThrough(orders)) {
        assert.deepEqual(end, truth?.end);
        assert.ok(begun <= 2, `provisioned ${begun} times`);
      }
    }),
    { numRuns: Math.ceil(LIVES / TOGETHER), endOnFailure: true },
  );
});
