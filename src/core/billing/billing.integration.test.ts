import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import fc from "fast-check";
import { sql } from "kysely";
import { parseStripeEvent } from "../adapters/stripe/stripe-event.ts";
import { addMs, fixedClock } from "../platform/clock.ts";
import type { TenantId } from "../platform/ids.ts";
import { createLog } from "../platform/log.ts";
import { changeStatus, createTenant, getTenant, listTenantEvents, updateTenant } from "../tenants/tenants.ts";
import { createTestDatabase } from "../testing/database.ts";
import {
  checkoutEvent,
  type EventBody,
  invoiceEvent,
  stripeEvent,
  subscriptionEvent,
} from "../testing/fakes/stripe-events.ts";
import {
  applyEntitlement,
  createLedger,
  findBilling,
  findEntitlement,
  projectStripeEvents,
  sweepEntitlement,
} from "./billing.ts";
import { tryLockLanes } from "./store.ts";

const START = new Date("2026-03-01T12:00:00Z");
const T0 = START.getTime() / 1000 + 60;
const DAY_MS = 86_400_000;
const signal = new AbortController().signal;

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

let clock = fixedClock(START);
beforeEach(async () => {
  clock = fixedClock(START);
  await sql`TRUNCATE stripe_events, tenants, audit_log CASCADE`.execute(database.db);
  await sql`SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs`.execute(database.db);
});

function context() {
  return {
    db: database.db,
    clock,
    actor: { name: "billing" },
    log: createLog("error", { write: () => true }),
    prices: { basic: "price_basic", plus: "price_plus" },
  };
}

let tenants = 0;
async function newTenant(options: { trialDays?: number; billingExempt?: boolean } = {}): Promise<TenantId> {
  const slug = `tenant-${++tenants}`;
  const { tenant } = await createTenant(context(), { slug, email: `${slug}@example.com`, ...options });
  return tenant.id;
}

/** What the orchestrator and operators do. */
async function move(id: TenantId, ...changes: Parameters<typeof changeStatus>[2][]): Promise<void> {
  for (const change of changes)
    await database.db.transaction().execute((tx) => changeStatus({ ...context(), db: tx }, id, change));
}
const healthy = { to: "active", reason: "healthy" } as const;
const removed = { to: "deleted", reason: "gone", retentionDays: 30 } as const;

async function accept(...events: EventBody[]): Promise<string[]> {
  const outcomes: string[] = [];
  for (const event of events) {
    const arrival = { event: parseStripeEvent(event), rawBody: Buffer.from(JSON.stringify(event)) };
    outcomes.push(await createLedger(context()).submit(arrival));
  }
  return outcomes;
}

async function deliver(...events: EventBody[]) {
  await accept(...events);
  return projectStripeEvents(context(), signal);
}

async function statusOf(id: TenantId): Promise<string> {
  return (await getTenant(database.db, id)).status;
}

/** Every status change in the audit log, as `from → to`. */
async function changesOf(id: TenantId): Promise<string[]> {
  const entries = await listTenantEvents(database.db, id, 100);
  return entries
    .filter((entry) => entry.action === "tenant.status")
    .map(({ detail }) => {
      const { from, to } = detail as { from: string; to: string };
      return `${from} → ${to}`;
    });
}

async function eventStatuses(): Promise<Record<string, string>> {
  const rows = await database.db.selectFrom("stripeEvents").select(["type", "status"]).orderBy("createdAt").execute();
  return Object.fromEntries(rows.map((row) => [row.type, row.status]));
}

async function jobs(name: string) {
  const { rows } = await sql<{ key: string; runAt: Date }>`
    SELECT key, run_at FROM graphile_worker.jobs WHERE task_identifier = ${name} ORDER BY id`.execute(database.db);
  return rows;
}

/** A tenant that pays and runs. */
async function newSubscriber(options: { trialDays?: number } = {}): Promise<TenantId> {
  const tenantId = await newTenant(options);
  await deliver(
    subscriptionEvent({ type: "created", status: "active", created: T0, tenantId }),
    checkoutEvent({ created: T0, tenantId }),
    invoiceEvent({ type: "paid", created: T0, tenantId }),
  );
  await move(tenantId, healthy);
  return tenantId;
}

test("an event that Stripe sends again changes nothing", async () => {
  const event = subscriptionEvent({ status: "active", created: T0 });
  assert.deepEqual(await accept(event, event), ["accepted", "duplicate"]);
  assert.equal((await jobs("stripe.project")).length, 1);
  const together = checkoutEvent({ created: T0 });
  const outcomes = await Promise.all([accept(together), accept(together), accept(together)]);
  assert.deepEqual(outcomes.flat().sort(), ["accepted", "duplicate", "duplicate"]);
});

test("a paid checkout starts provisioning, in one transaction with the job that does it", async () => {
  const tenantId = await newTenant();
  assert.deepEqual(await deliver(checkoutEvent({ created: T0, tenantId })), {
    projected: 1,
    ignored: 0,
    unmatched: 0,
    failed: 0,
  });
  assert.equal(await statusOf(tenantId), "provisioning");
  assert.deepEqual(await changesOf(tenantId), ["pending → provisioning"]);
  assert.deepEqual(
    (await jobs("tenant.converge")).map((job) => job.key),
    [`converge:${tenantId}`],
  );
});

/** A whole life in its true order, half of it known by the customer alone, as when a payment link was used. */
function wholeLife(tenantId: TenantId, suffix: string): EventBody[] {
  const unnamed = { subscription: `sub_${suffix}`, customer: `cus_${suffix}`, started: T0 };
  const named = { ...unnamed, tenantId };
  const retryAt = T0 + 200;
  return [
    subscriptionEvent({ ...unnamed, type: "created", status: "incomplete", created: T0 }),
    checkoutEvent({ ...unnamed, clientReferenceId: tenantId, created: T0 }),
    invoiceEvent({ ...unnamed, type: "paid", created: T0 }),
    subscriptionEvent({ ...unnamed, status: "active", created: T0 }),
    subscriptionEvent({ ...named, status: "past_due", created: T0 + 100, shape: "acacia" }),
    invoiceEvent({
      ...unnamed,
      type: "payment_failed",
      created: T0 + 100,
      nextPaymentAttempt: retryAt,
      shape: "acacia",
    }),
    invoiceEvent({ ...named, type: "paid", created: retryAt }),
    subscriptionEvent({ ...unnamed, status: "active", created: retryAt, price: "price_plus" }),
    subscriptionEvent({ ...unnamed, type: "deleted", status: "canceled", created: T0 + 300, price: "price_plus" }),
  ];
}

/** Lives through a whole life in the given order, projecting after every `batchSize` events. */
async function liveThrough(order: readonly number[], batchSize: number, suffix: string) {
  const tenantId = await newTenant();
  const events = wholeLife(tenantId, suffix);
  for (let start = 0; start < order.length; start += batchSize) {
    await deliver(...order.slice(start, start + batchSize).flatMap((index) => events[index] ?? []));
  }
  const billing = JSON.stringify(await findBilling(database.db, tenantId))
    .replaceAll(`_${suffix}"`, '"')
    .replaceAll(tenantId, "tenant");
  // Ids of events differ from life to life; which event is in force shows in its time.
  return {
    billing: billing.replaceAll(/evt_\w+/g, "evt"),
    status: await statusOf(tenantId),
    changes: await changesOf(tenantId),
  };
}

test("any order and repetition of a life's events ends in the same row and the same status", async () => {
  const inOrder = Array.from({ length: 9 }, (_, index) => index);
  const truth = await liveThrough(inOrder, 1, "truth");
  assert.equal(truth.status, "deprovisioning");
  assert.deepEqual(truth.changes, ["pending → provisioning", "provisioning → deprovisioning"]);
  let lives = 0;
  const orders = fc.shuffledSubarray([...inOrder, ...inOrder], { minLength: 18 });
  await fc.assert(
    fc.asyncProperty(orders, fc.integer({ min: 1, max: 18 }), async (order, batchSize) => {
      const { billing, status, changes } = await liveThrough(order, batchSize, `life${++lives}`);
      assert.equal(billing, truth.billing);
      assert.equal(status, truth.status);
      // The end may come before anything began; nothing is recorded twice.
      assert.ok([truth.changes.join(), "pending → deprovisioning"].includes(changes.join()), changes.join());
    }),
    { numRuns: 25 },
  );
  const rows = await database.db
    .selectFrom("stripeEvents")
    .select("status")
    .where("status", "!=", "projected")
    .execute();
  assert.deepEqual(rows, []);
});

test("one declined card with a retry ahead keeps the tenant running; the last one suspends it; paying resumes it (F53, F65)", async () => {
  const tenantId = await newSubscriber();
  const failed = (created: number, nextPaymentAttempt: number | null) =>
    invoiceEvent({ type: "payment_failed", created, nextPaymentAttempt });
  await deliver(failed(T0 + 100, T0 + 200), subscriptionEvent({ status: "past_due", created: T0 + 100, started: T0 }));
  assert.equal(await statusOf(tenantId), "active");
  await deliver(failed(T0 + 200, null));
  const suspended = await getTenant(database.db, tenantId);
  assert.deepEqual([suspended.status, suspended.suspendedBy], ["suspended", "billing"]);
  assert.match(suspended.statusReason ?? "", /payment failed/);
  await deliver(invoiceEvent({ type: "paid", created: T0 + 300 }));
  assert.deepEqual(await changesOf(tenantId), [
    "pending → provisioning",
    "provisioning → active",
    "active → suspended",
    "suspended → active",
  ]);
});

test("paused and unpaid subscriptions suspend, resumed ones run again, and each has the runtime follow (F57, F65)", async () => {
  const tenantId = await newSubscriber();
  await sql`SELECT graphile_worker.complete_jobs(array_agg(id)) FROM graphile_worker.jobs`.execute(database.db);
  await deliver(subscriptionEvent({ type: "paused", status: "paused", created: T0 + 100, started: T0 }));
  assert.equal(await statusOf(tenantId), "suspended");
  assert.equal((await jobs("tenant.converge")).length, 1);
  await deliver(subscriptionEvent({ type: "resumed", status: "active", created: T0 + 200, started: T0 }));
  assert.equal(await statusOf(tenantId), "active");
  await deliver(subscriptionEvent({ status: "unpaid", created: T0 + 300, started: T0 }));
  assert.equal(await statusOf(tenantId), "suspended");
});

test("an ended subscription has the runtime removed, and leaves the data to its keeping time (F68)", async () => {
  const tenantId = await newSubscriber();
  await deliver(subscriptionEvent({ status: "active", created: T0 + 50, started: T0, cancelAtPeriodEnd: true }));
  assert.equal(await statusOf(tenantId), "active");
  assert.equal((await findBilling(database.db, tenantId))?.subscription?.cancelAtPeriodEnd, true);
  await deliver(subscriptionEvent({ type: "deleted", status: "canceled", created: T0 + 100, started: T0 }));
  assert.equal(await statusOf(tenantId), "deprovisioning");
  await move(tenantId, removed);
  assert.ok((await getTenant(database.db, tenantId)).purgeAfter !== null);
});

test("late news of an old subscription does not touch the new one, however it is matched (F66)", async () => {
  const tenantId = await newSubscriber();
  await deliver(subscriptionEvent({ type: "deleted", status: "canceled", created: T0 + 100, started: T0 }));
  await move(tenantId, removed);
  await deliver(
    checkoutEvent({ subscription: "sub_2", created: T0 + 200, tenantId }),
    subscriptionEvent({ type: "created", subscription: "sub_2", status: "active", created: T0 + 200, tenantId }),
  );
  await move(tenantId, healthy);
  await deliver(
    // Known by its id, by what we wrote into it, and a third one by nothing but the customer.
    subscriptionEvent({ id: "evt_late", type: "deleted", status: "canceled", created: T0 + 300, started: T0 }),
    invoiceEvent({ type: "payment_failed", created: T0 + 300, tenantId }),
    subscriptionEvent({
      type: "deleted",
      subscription: "sub_0",
      status: "canceled",
      created: T0 + 300,
      started: T0 - 900,
      tenantId,
    }),
    subscriptionEvent({
      id: "evt_foreign",
      type: "deleted",
      subscription: "sub_3",
      status: "canceled",
      created: T0 + 300,
    }),
  );
  assert.equal(await statusOf(tenantId), "active");
  assert.equal((await findBilling(database.db, tenantId))?.subscription?.id, "sub_2");
  const foreign = await database.db
    .selectFrom("stripeEvents")
    .select("status")
    .where("id", "=", "evt_foreign")
    .executeTakeFirst();
  assert.equal(foreign?.status, "unmatched");
});

test("a subscription that replaces a living one keeps the tenant running when the old one ends (F66)", async () => {
  const tenantId = await newSubscriber();
  await deliver(
    subscriptionEvent({
      type: "created",
      subscription: "sub_2",
      status: "active",
      created: T0 + 50,
      tenantId,
      price: "price_plus",
    }),
  );
  await deliver(subscriptionEvent({ type: "deleted", status: "canceled", created: T0 + 100, started: T0 }));
  assert.equal(await statusOf(tenantId), "active");
  assert.equal((await getTenant(database.db, tenantId)).tier, "plus");
});

test("a completed but unpaid checkout waits for its payment (F60, F67)", async () => {
  const tenantId = await newTenant();
  await deliver(
    subscriptionEvent({ id: "evt_1", type: "created", status: "active", created: T0, tenantId }),
    checkoutEvent({ id: "evt_2", created: T0, tenantId, paymentStatus: "unpaid" }),
  );
  assert.equal(await statusOf(tenantId), "pending");
  assert.equal((await findBilling(database.db, tenantId))?.awaitingPayment, true);
  await deliver(checkoutEvent({ type: "async_payment_succeeded", created: T0 + DAY_MS / 1000, tenantId }));
  assert.equal(await statusOf(tenantId), "provisioning");
});

test("a delayed payment that fails starts nothing (F60)", async () => {
  const tenantId = await newTenant();
  await deliver(checkoutEvent({ created: T0, tenantId, paymentStatus: "unpaid" }));
  await deliver(checkoutEvent({ type: "async_payment_failed", created: T0 + 100, tenantId, paymentStatus: "unpaid" }));
  assert.equal(await statusOf(tenantId), "pending");
  assert.match((await findEntitlement(database.db, tenantId, clock.now())).reason, /failed/);
});

test("a subscription's own trial needs no payment to start", async () => {
  const tenantId = await newTenant();
  await deliver(checkoutEvent({ created: T0, tenantId, paymentStatus: "no_payment_required" }));
  assert.equal(await statusOf(tenantId), "provisioning");
});

test("a checkout that sells something else, and types that are not ours, are kept and ignored (F61)", async () => {
  const tenantId = await newTenant();
  const created = stripeEvent("customer.created", { id: "cus_1", object: "customer" }, { created: T0 + 1 });
  await deliver(checkoutEvent({ created: T0, tenantId, mode: "payment" }), created);
  assert.deepEqual(await eventStatuses(), { "checkout.session.completed": "ignored", "customer.created": "ignored" });
  assert.equal(await statusOf(tenantId), "pending");
});

test("events that come before the link to a tenant wait unmatched, and are applied once it is made", async () => {
  const tenantId = await newTenant();
  await deliver(
    subscriptionEvent({ type: "created", status: "active", created: T0, price: "price_plus" }),
    invoiceEvent({ type: "paid", created: T0 }),
  );
  assert.deepEqual(await eventStatuses(), {
    "customer.subscription.created": "unmatched",
    "invoice.paid": "unmatched",
  });
  const result = await deliver(checkoutEvent({ created: T0, clientReferenceId: tenantId }));
  assert.equal(result.projected, 3);
  const tenant = await getTenant(database.db, tenantId);
  assert.deepEqual([tenant.status, tenant.tier], ["provisioning", "plus"]);
});

test("a reference that is no tenant of ours matches nothing", async () => {
  const unknown = "6d1e2a52-52a9-4c4e-9a7a-0d5f3c0c7f11";
  await deliver(
    subscriptionEvent({ status: "active", created: T0, tenantId: "'; DROP TABLE tenants; --" }),
    checkoutEvent({ created: T0 + 1, clientReferenceId: unknown }),
  );
  assert.deepEqual(await eventStatuses(), {
    "customer.subscription.updated": "unmatched",
    "checkout.session.completed": "unmatched",
  });
});

test("a customer who pays for two tenants is not guessed at", async () => {
  const first = await newTenant();
  const second = await newTenant();
  await deliver(
    subscriptionEvent({ subscription: "sub_a", status: "active", created: T0, tenantId: first }),
    subscriptionEvent({ subscription: "sub_b", status: "active", created: T0, tenantId: second }),
    subscriptionEvent({ subscription: "sub_b", type: "deleted", status: "canceled", created: T0 + 100, started: T0 }),
  );
  assert.equal(await statusOf(first), "provisioning");
  assert.equal(await statusOf(second), "deprovisioning");
  const { unmatched } = await deliver(
    subscriptionEvent({ subscription: "sub_c", status: "active", created: T0 + 200 }),
  );
  assert.equal(unmatched, 1);
});

test("a trial user who pays keeps the running runtime; after the trial it is resumed, not rebuilt (F69)", async () => {
  const early = await newTenant({ trialDays: 7 });
  await move(early, healthy);
  await deliver(checkoutEvent({ created: T0, tenantId: early }));
  assert.equal(await statusOf(early), "active");
  assert.deepEqual(await changesOf(early), ["pending → provisioning", "provisioning → active"]);
  const late = await newTenant({ trialDays: 7 });
  await move(late, healthy);
  clock.advance(8 * DAY_MS);
  assert.deepEqual(await sweepEntitlement(context(), signal), { judged: 2, changed: 1, failed: 0 });
  assert.equal(await statusOf(late), "suspended");
  await deliver(
    checkoutEvent({ subscription: "sub_late", customer: "cus_late", created: T0 + 8 * 86_400, tenantId: late }),
  );
  assert.equal(await statusOf(late), "active");
});

test("the sweep suspends whoever isn't entitled, without asking how they came to run (F55)", async () => {
  const trial = await newTenant({ trialDays: 1 });
  const never = await newTenant();
  await move(never, { to: "provisioning", reason: "by hand" });
  const paying = await newSubscriber();
  const exempt = await newTenant({ trialDays: 1, billingExempt: true });
  for (const id of [trial, never, exempt]) await move(id, healthy);
  clock.advance(2 * DAY_MS);
  await sweepEntitlement(context(), signal);
  const statuses = await Promise.all([trial, never, paying, exempt].map(statusOf));
  assert.deepEqual(statuses, ["suspended", "suspended", "active", "active"]);
  assert.deepEqual(await sweepEntitlement(context(), signal), { judged: 4, changed: 0, failed: 0 });
});

test("exempt tenants are left alone by events, sweeps and updates (F58)", async () => {
  const tenantId = await newSubscriber();
  await updateTenant(context(), tenantId, { billingExempt: true, tier: "plus" });
  await deliver(subscriptionEvent({ status: "active", created: T0 + 50, started: T0, price: "price_other" }));
  await deliver(subscriptionEvent({ type: "deleted", status: "canceled", created: T0 + 100, started: T0 }));
  await sweepEntitlement(context(), signal);
  await applyEntitlement(context(), tenantId);
  const tenant = await getTenant(database.db, tenantId);
  assert.deepEqual([tenant.status, tenant.tier], ["active", "plus"]);
  assert.equal((await findBilling(database.db, tenantId))?.subscription?.status, "canceled");
  await updateTenant(context(), tenantId, { billingExempt: false });
  assert.equal(await applyEntitlement(context(), tenantId), true);
  assert.equal(await statusOf(tenantId), "suspended");
});

test("an operator's suspension outlasts payments", async () => {
  const tenantId = await newSubscriber();
  await move(tenantId, { to: "suspended", suspendedBy: "operator", reason: "abuse" });
  await deliver(
    invoiceEvent({ type: "paid", created: T0 + 100 }),
    subscriptionEvent({ status: "active", created: T0 + 100, started: T0 }),
  );
  await sweepEntitlement(context(), signal);
  assert.equal(await statusOf(tenantId), "suspended");
});

test("what was given up is tried again by a new payment, not by other news (F51)", async () => {
  const tenantId = await newTenant();
  await deliver(subscriptionEvent({ status: "active", created: T0, tenantId }));
  clock.advance(3_600_000);
  await move(tenantId, { to: "pending", reason: "the image can't be pulled" });
  await deliver(invoiceEvent({ type: "paid", created: T0 + 10 }));
  await deliver(subscriptionEvent({ status: "active", created: T0 + 7_200, started: T0 }));
  assert.equal(await statusOf(tenantId), "pending");
  await deliver(invoiceEvent({ type: "paid", created: T0 + 7_200 }));
  assert.equal(await statusOf(tenantId), "provisioning");
});

test("a subscriber who returns during removal is provisioned after it; one who returns later, at once", async () => {
  const tenantId = await newSubscriber();
  await deliver(subscriptionEvent({ type: "deleted", status: "canceled", created: T0 + 100, started: T0 }));
  await deliver(checkoutEvent({ subscription: "sub_2", created: T0 + 200, tenantId }));
  const during = await getTenant(database.db, tenantId);
  assert.deepEqual([during.status, during.provisionWhenDeleted], ["deprovisioning", true]);
  await deliver(
    subscriptionEvent({
      type: "deleted",
      subscription: "sub_2",
      status: "canceled",
      created: T0 + 300,
      started: T0 + 200,
    }),
  );
  assert.equal((await getTenant(database.db, tenantId)).provisionWhenDeleted, false);
  await move(tenantId, removed);
  await deliver(checkoutEvent({ subscription: "sub_3", created: T0 + 400, tenantId }));
  assert.equal(await statusOf(tenantId), "provisioning");
});

test("a change of plan moves the tier, and an unknown price means basic, with a warning (F65)", async () => {
  const tenantId = await newSubscriber();
  const priced = (price: string, created: number) =>
    subscriptionEvent({ status: "active", created, started: T0, price });
  await deliver(priced("price_plus", T0 + 100));
  assert.equal((await getTenant(database.db, tenantId)).tier, "plus");
  await deliver(priced("price_basic", T0 + 50));
  assert.equal((await getTenant(database.db, tenantId)).tier, "plus");
  await deliver(priced("price_unheard_of", T0 + 200));
  assert.equal((await getTenant(database.db, tenantId)).tier, "basic");
  const warning = (await listTenantEvents(database.db, tenantId, 100)).find(
    (entry) => entry.action === "billing.price-unknown",
  );
  assert.deepEqual(warning?.detail, { warning: true, priceId: "price_unheard_of" });
  await updateTenant(context(), tenantId, { tier: "plus" });
  await deliver(priced("price_unheard_of", T0 + 300));
  assert.equal((await getTenant(database.db, tenantId)).tier, "plus");
});

test("an event that can't be applied holds up no other, and is left to an operator after eight tries", async () => {
  const tenantId = await newTenant();
  const poison = subscriptionEvent({ id: "evt_poison", status: "secret-new-status", created: T0 - 1, tenantId });
  const result = await deliver(poison, checkoutEvent({ created: T0, tenantId }));
  assert.deepEqual([result.projected, result.failed], [1, 1]);
  assert.equal(await statusOf(tenantId), "provisioning");
  const later = (await jobs("stripe.project")).find((job) => job.key === "stripe.project.later");
  assert.ok(later !== undefined);
  const read = () =>
    database.db.selectFrom("stripeEvents").selectAll().where("id", "=", "evt_poison").executeTakeFirstOrThrow();
  for (let attempts = 2; attempts <= 8; attempts++) {
    assert.deepEqual(await projectStripeEvents(context(), signal), {
      projected: 0,
      ignored: 0,
      unmatched: 0,
      failed: 0,
    });
    clock.advance((await read()).nextAttemptAt.getTime() - clock.now().getTime());
    assert.equal((await projectStripeEvents(context(), signal)).failed, 1);
    assert.equal((await read()).attempts, attempts);
  }
  const row = await read();
  assert.equal(row.status, "failed");
  assert.equal(row.lastError, "not the expected shape: status (invalid_value)");
  clock.advance(DAY_MS);
  assert.equal((await projectStripeEvents(context(), signal)).failed, 0);
});

test("a subscription of one tenant can't be taken by naming another", async () => {
  const owner = await newSubscriber();
  const other = await newTenant();
  const { failed } = await deliver(
    subscriptionEvent({ type: "deleted", status: "canceled", created: T0 + 100, started: T0, tenantId: other }),
  );
  assert.equal(failed, 1);
  assert.deepEqual([await statusOf(owner), await statusOf(other)], ["active", "pending"]);
});

test("several daemons at once apply each event once", async () => {
  const ids = await Promise.all(Array.from({ length: 8 }, () => newTenant()));
  for (const [index, tenantId] of ids.entries()) {
    const common = { tenantId, subscription: `sub_${index}`, customer: `cus_${index}`, started: T0 };
    await accept(
      subscriptionEvent({ ...common, type: "created", status: "incomplete", created: T0 }),
      checkoutEvent({ ...common, created: T0 }),
      subscriptionEvent({ ...common, status: "active", created: T0 + 1 }),
      invoiceEvent({ ...common, type: "paid", created: T0 + 1 }),
    );
  }
  const results = await Promise.all(Array.from({ length: 4 }, () => projectStripeEvents(context(), signal)));
  assert.equal(
    results.reduce((sum, result) => sum + result.projected, 0),
    32,
  );
  assert.equal(
    results.reduce((sum, result) => sum + result.failed, 0),
    0,
  );
  for (const id of ids) assert.deepEqual(await changesOf(id), ["pending → provisioning"]);
});

test("while one daemon works on a customer, others pass that customer's events over", async () => {
  const [first, second] = [await newTenant(), await newTenant()];
  await accept(
    checkoutEvent({ created: T0, tenantId: first }),
    checkoutEvent({ created: T0, tenantId: second, customer: "cus_2", subscription: "sub_2" }),
  );
  await database.db.transaction().execute(async (tx) => {
    assert.deepEqual(await tryLockLanes(tx, ["cus_1"]), ["cus_1"]);
    assert.equal((await projectStripeEvents(context(), signal)).projected, 1);
  });
  assert.deepEqual([await statusOf(first), await statusOf(second)], ["pending", "provisioning"]);
  assert.ok((await jobs("stripe.project")).some((job) => job.key === "stripe.project.later"));
  assert.equal((await projectStripeEvents(context(), signal)).projected, 1);
  assert.equal(await statusOf(first), "provisioning");
});

test("entitlement that time took away is seen at once by whoever asks", async () => {
  const tenantId = await newTenant({ trialDays: 1 });
  assert.equal((await findEntitlement(database.db, tenantId, clock.now())).entitled, true);
  assert.equal((await findEntitlement(database.db, tenantId, addMs(clock.now(), DAY_MS))).entitled, false);
});
