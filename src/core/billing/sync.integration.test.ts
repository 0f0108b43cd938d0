import assert from "node:assert/strict";
import test, { after, before, beforeEach, type TestContext } from "node:test";
import type { TenantId } from "../platform/ids.ts";
import { changeStatus, getTenant } from "../tenants/tenants.ts";
import { chargeEvent } from "../testing/fakes/stripe-charge-events.ts";
import { findEntitlement, syncBilling, type SyncItem, syncTenants } from "./billing.ts";
import { startShop } from "./shop-test-setup.ts";
import { withSyncLock } from "./sync-store.ts";
import { openBillingStage } from "./test-setup.ts";

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(async () => {
  await stage.reset();
  await stage.db.deleteFrom("billingSyncs").execute();
});

async function openShop(t: TestContext) {
  const { server, ctx } = await startShop(t, stage);
  /** Somebody subscribed, and Stripe's events never arrived. */
  const subscribe = async (price = "price_basic") => {
    const tenantId = await stage.newTenant();
    const customer = server.addCustomer({ metadata: { tenant_id: tenantId } });
    const { id } = server.addSubscription({ customer: customer.id, price, metadata: { tenant_id: tenantId } });
    return { tenantId, subscription: id, customer: customer.id };
  };
  const options = (more: { dryRun?: boolean; restart?: boolean; signal?: AbortSignal } = {}) => {
    const items: SyncItem[] = [];
    const signal = new AbortController().signal;
    return { items, dryRun: false, restart: false, signal, onItem: (item: SyncItem) => void items.push(item), ...more };
  };
  const sync = async (more: Parameters<typeof options>[0] = {}) => {
    const all = options(more);
    // Nothing that was read in the same millisecond is older.
    stage.clock.advance(1_000);
    await syncBilling({ ...ctx, clock: stage.clock }, all);
    return all.items;
  };
  return { server, ctx, subscribe, options, sync };
}

const statusOf = async (id: TenantId) => (await getTenant(stage.db, id)).status;
const results = (items: readonly SyncItem[]) => items.map(({ result }) => result);

test("what events missed is repaired: who pays runs, whose subscription ended is removed, whose plan changed gets it", async (t) => {
  const { server, subscribe, sync } = await openShop(t);
  const { tenantId, subscription } = await subscribe();
  const [first] = await sync();
  assert.equal(first?.result, "repaired");
  assert.equal(await statusOf(tenantId), "provisioning");
  assert.deepEqual(results(await sync()), ["same"]);

  server.setStatus(subscription, "past_due");
  assert.equal((await sync())[0]?.result, "repaired");
  assert.equal(await statusOf(tenantId), "provisioning", "Stripe still tries");
  server.setStatus(subscription, "canceled");
  const [ended] = await sync();
  assert.ok(ended?.result === "repaired");
  assert.deepEqual(
    ended.changes.find(({ field }) => field === "status"),
    { field: "status", before: "past_due", after: "canceled" },
  );
  assert.equal(await statusOf(tenantId), "deprovisioning");
  assert.deepEqual(results(await sync()), ["same"]);
});

test("what was paid is known afterwards, with its invoice", async (t) => {
  const { server, subscribe, sync } = await openShop(t);
  const { tenantId, subscription } = await subscribe();
  server.renew(subscription, "paid");
  await sync();
  const payments = await stage.db.selectFrom("stripePayments").select(["tenantId", "amountCents"]).execute();
  assert.deepEqual(payments, [{ tenantId, amountCents: 2_000 }]);
  server.renew(subscription, "given-up");
  server.setStatus(subscription, "unpaid");
  await sync();
  assert.equal((await findEntitlement(stage.db, tenantId, stage.clock.now())).entitled, false);
});

test("a dry run changes nothing and says the same", async (t) => {
  const { subscribe, sync } = await openShop(t);
  const { tenantId } = await subscribe("price_plus");
  const dry = await sync({ dryRun: true });
  assert.equal(await statusOf(tenantId), "pending");
  assert.equal((await stage.db.selectFrom("stripeSubscriptions").selectAll().execute()).length, 0);
  const [would] = dry;
  const [did] = await sync();
  assert.ok(would?.result === "repaired" && did?.result === "repaired");
  assert.deepEqual(would.changes, did.changes);
  assert.equal((await getTenant(stage.db, tenantId)).tier, "plus");
});

test("subscriptions of no tenant, and ours that Stripe does not have, are said and left alone (F59)", async (t) => {
  const { server, subscribe, sync } = await openShop(t);
  const stranger = server.addSubscription({ customer: server.addCustomer().id, price: "price_basic" });
  const { tenantId } = await subscribe();
  await sync();
  const row = { id: "sub_of_live_mode", tenantId, status: "active" as const, startedAt: stage.clock.now() };
  const elsewhere = { ...row, statusAsOf: stage.clock.now(), updatedAt: stage.clock.now() };
  await stage.db.insertInto("stripeSubscriptions").values(elsewhere).execute();
  const items = await sync();
  const found = (wanted: SyncItem["result"]) =>
    items.flatMap(({ subscription, result }) => (result === wanted ? [subscription] : []));
  assert.deepEqual([found("unknown-in-stripe"), found("unmatched")], [["sub_of_live_mode"], [stranger.id]]);
  assert.equal(found("same").length, 1);
  const kept = await stage.db
    .selectFrom("stripeSubscriptions")
    .select("status")
    .where("id", "=", "sub_of_live_mode")
    .executeTakeFirst();
  assert.equal(kept?.status, "active");
});

test("pages are read one after the other; one that was broken off goes on after the last, or begins anew", async (t) => {
  const { server, subscribe, options, ctx } = await openShop(t);
  for (let nth = 0; nth < 230; nth += 1) await subscribe();
  const pages = () => server.calls.filter(({ path }) => path === "/v1/subscriptions").length;
  const broken = new AbortController();
  const half = options({ signal: broken.signal });
  const stopAfter = (item: SyncItem) => {
    half.items.push(item);
    if (half.items.length === 150) broken.abort();
  };
  stage.clock.advance(1_000);
  await syncBilling(ctx, { ...half, onItem: stopAfter });
  // The second page was not seen to its end.
  assert.equal(half.items.length, 200);
  const rest = options();
  stage.clock.advance(1_000);
  await syncBilling(ctx, rest);
  assert.equal(rest.items.length, 130);
  assert.deepEqual(new Set(results(rest.items)), new Set(["same", "repaired"]));
  const before = pages();
  const again = options({ restart: true });
  stage.clock.advance(1_000);
  await syncBilling(ctx, again);
  assert.deepEqual([again.items.length, pages() - before], [230, 3]);
  assert.deepEqual(new Set(results(again.items)), new Set(["same"]));
  assert.deepEqual(await stage.db.selectFrom("billingSyncs").selectAll().execute(), []);
});

test("a comparison that was broken off with another account's key begins anew (F59)", async (t) => {
  const { subscribe, sync } = await openShop(t);
  await subscribe();
  const elsewhere = { startedAt: stage.clock.now(), afterId: "sub_of_another_account" };
  await stage.db.insertInto("billingSyncs").values(elsewhere).execute();
  assert.deepEqual(results(await sync()), ["repaired"]);
});

test("Stripe's 429 is waited out", async (t) => {
  const { server, subscribe, sync } = await openShop(t);
  await subscribe();
  server.limitNext("GET /v1/subscriptions", 1);
  assert.deepEqual(results(await sync()), ["repaired"]);
});

test("a refund's block and an operator's suspension stay in force", async (t) => {
  const { server, subscribe, sync } = await openShop(t);
  const refunded = await subscribe();
  const suspended = await subscribe();
  server.renew(refunded.subscription, "paid");
  await sync();
  const charge = [...server.account.objects.values()].find(({ object }) => object === "charge");
  const paid = await stage.db.selectFrom("stripePayments").selectAll().executeTakeFirstOrThrow();
  await stage.deliver(
    chargeEvent({
      type: "refunded",
      charge: String(charge?.id),
      customer: refunded.customer,
      created: Math.floor(paid.paidAt.getTime() / 1_000) + 1,
      charged: Math.floor(paid.paidAt.getTime() / 1_000),
    }),
  );
  await stage.db
    .updateTable("tenants")
    .set({ status: "active", provisioningDeadline: null })
    .where("id", "=", suspended.tenantId)
    .execute();
  const change = { to: "suspended" as const, suspendedBy: "operator" as const, reason: "abuse" };
  await stage.db
    .transaction()
    .execute((tx) => changeStatus({ ...stage.context(), db: tx }, suspended.tenantId, change));
  const entitled = async () => (await findEntitlement(stage.db, refunded.tenantId, stage.clock.now())).entitled;
  assert.equal(await entitled(), false);
  for (let times = 0; times < 3; times += 1) await sync();
  assert.equal(await entitled(), false);
  assert.equal(await statusOf(suspended.tenantId), "suspended");
});

test("some tenants are compared by what Stripe lists for their customers, and only they are", async (t) => {
  const { server, subscribe, ctx, options } = await openShop(t);
  const [one, other] = [await subscribe(), await subscribe()];
  const row = { tenantId: one.tenantId, stripeCustomerId: one.customer, updatedAt: stage.clock.now() };
  await stage.db.insertInto("tenantBilling").values(row).execute();
  const all = options();
  await syncTenants(ctx, [one.tenantId, other.tenantId], all);
  // Nothing leads from the other to Stripe: its event or a comparison of all will.
  assert.deepEqual(
    all.items.map(({ subscription, result }) => [subscription, result]),
    [[one.subscription, "repaired"]],
  );
  assert.equal(server.calls.filter(({ path }) => path === `/v1/subscriptions/${other.subscription}`).length, 0);
});

test("two at once are one too many", async (t) => {
  const { sync } = await openShop(t);
  await withSyncLock(stage.pool, () => assert.rejects(sync(), { code: "sync_running" }));
  assert.deepEqual(await sync(), []);
});
