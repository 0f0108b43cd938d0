import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { sql } from "kysely";
import type { StripeReader } from "../adapters/stripe/stripe-api.ts";
import { UpstreamError } from "../platform/errors.ts";
import { getTenant } from "../tenants/tenants.ts";
import { chargeEvent, disputeEvent } from "../testing/fakes/stripe-charge-events.ts";
import { type EventBody, invoiceEvent, subscriptionEvent } from "../testing/fakes/stripe-events.ts";
import { findBilling, projectStripeEvents } from "./billing.ts";
import { takeReadSlot } from "./read-slots.ts";
import { openBillingStage, T0 } from "./test-setup.ts";

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(() => stage.reset());

/** What Stripe has now, and what was asked of it. A fault is thrown instead of an answer. */
function openReader(...events: EventBody[]) {
  const objects = new Map(events.map(({ data }) => [String(data.object["id"]), data.object]));
  const reader = {
    asked: [] as string[],
    fault: undefined as Error | undefined,
    objects,
    api: {
      async retrieve(kind, id) {
        reader.asked.push(`${kind} ${id}`);
        if (reader.fault !== undefined) throw reader.fault;
        return objects.get(id);
      },
    } satisfies StripeReader,
  };
  return reader;
}

function project(api: StripeReader, signal = new AbortController().signal) {
  return projectStripeEvents(stage.context(api), signal);
}

async function waiting() {
  return stage.db
    .selectFrom("stripeEvents")
    .select(["attempts", "lastError", "nextAttemptAt"])
    .where("status", "=", "pending")
    .execute();
}

test("what Stripe says now counts, whatever the events said and in whatever order they came", async () => {
  const tenantId = await stage.newTenant();
  const active = subscriptionEvent({ status: "active", created: T0 + 90, started: T0, tenantId, price: "price_plus" });
  await stage.accept(
    subscriptionEvent({ status: "past_due", created: T0 + 80, started: T0, tenantId }),
    subscriptionEvent({ type: "created", status: "incomplete", created: T0, tenantId }),
  );
  assert.equal((await project(openReader(active).api)).projected, 2);
  const tenant = await getTenant(stage.db, tenantId);
  assert.deepEqual([tenant.status, tenant.tier], ["provisioning", "plus"]);
  const canceled = subscriptionEvent({ type: "deleted", status: "canceled", created: T0 + 99, started: T0, tenantId });
  await stage.accept(subscriptionEvent({ id: "evt_old", status: "active", created: T0 + 10, started: T0, tenantId }));
  await project(openReader(canceled).api);
  assert.equal((await findBilling(stage.db, tenantId))?.subscription?.status, "canceled");
});

test("all pending events of one object share one reading", async () => {
  const tenantId = await stage.newTenant();
  const now = subscriptionEvent({ status: "active", created: T0, tenantId });
  await stage.accept(
    ...Array.from({ length: 400 }, (_, second) =>
      subscriptionEvent({
        status: second % 2 === 0 ? "past_due" : "active",
        created: T0 + second,
        started: T0,
        tenantId,
      }),
    ),
  );
  const reader = openReader(now);
  assert.equal((await project(reader.api)).projected, 400);
  assert.deepEqual(reader.asked, ["subscription sub_1"]);
});

test("an invoice that was declined when its event was made, and is paid by now, suspends nobody (F53)", async () => {
  const tenantId = await stage.newTenant();
  await stage.deliver(subscriptionEvent({ status: "active", created: T0, tenantId }));
  await stage.accept(invoiceEvent({ type: "payment_failed", created: T0 + 50 }));
  await project(openReader(invoiceEvent({ type: "paid", created: T0 + 60 })).api);
  const billing = await findBilling(stage.db, tenantId);
  assert.equal(billing?.subscription?.paymentFailedAt, null);
  assert.deepEqual(billing?.subscription?.lastPaidAt, new Date((T0 + 60) * 1000));
});

test("a dispute finds its tenant by the charge that is read with it", async () => {
  const tenantId = await stage.newTenant();
  await stage.deliver(subscriptionEvent({ status: "active", created: T0, tenantId }));
  const lost = disputeEvent({ type: "closed", status: "lost", created: T0 + 90 });
  await stage.accept(lost);
  const reader = openReader(lost, chargeEvent({ type: "succeeded", created: T0 }));
  assert.equal((await project(reader.api)).projected, 1);
  assert.deepEqual(reader.asked, ["dispute du_of_ch_1", "charge ch_1"]);
  assert.equal((await findBilling(stage.db, tenantId))?.blockedChargeId, "ch_1");
});

test("while Stripe refuses or is away, events wait without an attempt being counted, and none is lost", async () => {
  const tenantId = await stage.newTenant();
  const events = Array.from({ length: 30 }, (_, index) =>
    subscriptionEvent({
      status: "active",
      created: T0,
      subscription: `sub_${index}`,
      customer: `cus_${index}`,
      tenantId,
    }),
  );
  await stage.accept(...events);
  const reader = openReader(...events);
  const options = { service: "stripe", retryable: true };
  for (const code of ["stripe_rate_limited", "stripe_unreachable"]) {
    reader.fault = new UpstreamError(code, "not now", options);
    reader.asked = [];
    assert.deepEqual(await project(reader.api), { projected: 0, ignored: 0, unmatched: 0, failed: 0 });
    assert.ok(reader.asked.length < events.length, "the rest is not asked for once it is refused");
    const rows = await waiting();
    assert.equal(rows.length, 30);
    for (const { attempts, lastError } of rows) {
      assert.equal(attempts, 0);
      assert.equal(lastError, `Stripe could not be read: ${code}: not now`);
    }
    stage.clock.advance(10_000);
  }
  reader.fault = undefined;
  assert.equal((await project(reader.api)).projected, 30);
  assert.equal((await getTenant(stage.db, tenantId)).status, "provisioning");
});

test("an object that Stripe does not have is taken from its event", async () => {
  const tenantId = await stage.newTenant();
  await stage.accept(subscriptionEvent({ status: "active", created: T0, tenantId }));
  assert.equal((await project(openReader().api)).projected, 1);
  assert.equal((await getTenant(stage.db, tenantId)).status, "provisioning");
});

test("events that somebody read and did not live to apply are taken over after two minutes", async () => {
  const tenantId = await stage.newTenant();
  const event = subscriptionEvent({ status: "active", created: T0, tenantId });
  await stage.accept(event);
  const dying = openReader(event);
  dying.fault = new TypeError("the process ends here");
  await assert.rejects(project(dying.api), TypeError);
  assert.equal((await project(openReader(event).api)).projected, 0);
  stage.clock.advance(120_000);
  assert.equal((await project(openReader(event).api)).projected, 1);
});

test("daemons at once read each object once, and apply each event once", async () => {
  const tenantId = await stage.newTenant();
  const events = Array.from({ length: 20 }, (_, index) =>
    subscriptionEvent({
      status: "active",
      created: T0,
      subscription: `sub_${index}`,
      customer: `cus_${index}`,
      tenantId,
    }),
  );
  await stage.accept(...events);
  const reader = openReader(...events);
  const results = await Promise.all(Array.from({ length: 3 }, () => project(reader.api)));
  assert.equal(
    results.reduce((sum, { projected }) => sum + projected, 0),
    20,
  );
  assert.equal(reader.asked.length, 20);
});

test("turns to read one kind of object are 40 ms apart over everybody, and those of another kind don't wait for them", async () => {
  await stage.db.deleteFrom("stripeReadSlots").execute();
  const { rows } = await sql<{ begun: Date }>`SELECT clock_timestamp() AS begun`.execute(stage.db);
  await Promise.all(Array.from({ length: 8 }, () => takeReadSlot(stage.db, "charge")));
  const { nextAt } = await stage.db
    .selectFrom("stripeReadSlots")
    .select("nextAt")
    .where("kind", "=", "charge")
    .executeTakeFirstOrThrow();
  assert.ok(nextAt.getTime() >= (rows[0]?.begun.getTime() ?? Number.NaN) + 8 * 40);
  await stage.db
    .updateTable("stripeReadSlots")
    .set({ nextAt: new Date(nextAt.getTime() + 60_000) })
    .execute();
  assert.ok((await takeReadSlot(stage.db, "charge")) > 50_000);
  assert.equal(await takeReadSlot(stage.db, "invoice"), 0);
});
