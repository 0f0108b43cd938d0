import assert from "node:assert/strict";
import test, { after, before, beforeEach, type TestContext } from "node:test";
import { request } from "undici";
import { createStripeApi } from "../adapters/stripe/stripe-api.ts";
import type { TenantId } from "../platform/ids.ts";
import { getTenant } from "../tenants/tenants.ts";
import { findBilling, openCheckout, openPortal } from "./billing.ts";
import { SECRET_KEY, startShop } from "./shop-test-setup.ts";
import { openBillingStage } from "./test-setup.ts";

const PRICES = { basic: "price_basic", plus: "price_plus" };
const PAGES = { prices: PRICES, successUrl: "https://example.com/thanks", cancelUrl: "https://example.com/back" };

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(() => stage.reset());

async function openShop(t: TestContext) {
  const { server, ctx } = await startShop(t, stage);
  const checkout = async (id: TenantId, more: { tier?: "basic" | "plus" } = {}) =>
    openCheckout(ctx, await getTenant(stage.db, id), { ...PAGES, ...more });
  const portal = async (id: TenantId) => openPortal(ctx, await getTenant(stage.db, id), "https://example.com/back");
  const made = (route: string) => server.calls.filter(({ method, path }) => `${method} ${path}` === route);
  /** Stripe's page is paid for, and its events arrive here. */
  const pay = async (url: string) => {
    const session = server.object("checkout.session", sessionId(url));
    server.pay(session.id);
    await stage.deliver(...server.events.splice(0));
    return server.object("checkout.session", session.id);
  };
  return { server, ctx, checkout, portal, made, pay };
}

function sessionId(url: string): string {
  return /cs_[A-Za-z0-9_]+/.exec(url)?.[0] ?? assert.fail(url);
}

test("ten at once get one customer and one page, which says whose it is on the session and on the subscription", async (t) => {
  const { server, checkout, made } = await openShop(t);
  const id = await stage.newTenant();
  const links = await Promise.all(Array.from({ length: 10 }, () => checkout(id)));
  assert.equal(new Set(links.map(({ url }) => url)).size, 1);
  assert.equal(new Set(links.map(({ customer }) => customer.id)).size, 1);
  assert.equal([...server.account.objects.values()].filter(({ object }) => object === "customer").length, 1);
  assert.equal((await findBilling(stage.db, id))?.stripeCustomerId, links[0]?.customer.id);
  for (const { params, idempotencyKey } of made("POST /v1/checkout/sessions")) {
    assert.ok(idempotencyKey !== undefined);
    assert.equal(params["client_reference_id"], id);
    assert.match(JSON.stringify(params["metadata"]), new RegExp(`"tenant_id":"${id}"`));
    assert.deepEqual(params["subscription_data"], { metadata: { tenant_id: id } });
  }
  assert.equal((await checkout(id)).url, links[0]?.url);
});

test("what is bought makes the tenant run, and a second subscription is refused with the way to the portal", async (t) => {
  const { checkout, pay, portal, ctx } = await openShop(t);
  const id = await stage.newTenant();
  await assert.rejects(portal(id), { code: "no_customer" });
  const { url } = await checkout(id, { tier: "plus" });
  await pay(url);
  const tenant = await getTenant(stage.db, id);
  assert.deepEqual([tenant.status, tenant.tier], ["provisioning", "plus"]);
  await assert.rejects(checkout(id), (error: Error) => /is active.*openclaw billing portal/.test(error.message));
  assert.match((await portal(id)).url, /^https:\/\/billing\.stripe\.com/);
  // Stripe's word counts, also while the events are still on their way.
  await stage.db.deleteFrom("stripeSubscriptions").execute();
  await assert.rejects(openCheckout(ctx, tenant, PAGES), { code: "already_subscribed" });
});

test("a subscription that ended may be followed by another, by the same customer", async (t) => {
  const { server, checkout, pay } = await openShop(t);
  const id = await stage.newTenant();
  const first = await checkout(id);
  const session = await pay(first.url);
  server.setStatus(String(session["subscription"]), "canceled");
  await stage.deliver(...server.events.splice(0));
  const second = await checkout(id);
  assert.notEqual(second.url, first.url);
  assert.deepEqual(second.customer, { id: first.customer.id, replaced: undefined });
});

test("a page for another tier closes the one before, so that nobody pays twice", async (t) => {
  const { server, checkout } = await openShop(t);
  const id = await stage.newTenant();
  const basic = await checkout(id);
  const plus = await checkout(id, { tier: "plus" });
  assert.notEqual(plus.url, basic.url);
  assert.equal(server.object("checkout.session", sessionId(basic.url))["status"], "expired");
  assert.notEqual((await checkout(id)).url, basic.url);
});

test("whatever is asked for at once, one page is open in the end", async (t) => {
  const { server, checkout } = await openShop(t);
  const id = await stage.newTenant();
  const tiers = ["basic", "plus", "basic", "plus"] as const;
  const links = await Promise.all(tiers.map((tier) => checkout(id, { tier })));
  const open = [...server.account.objects.values()].filter(
    (one) => one.object === "checkout.session" && one["status"] === "open",
  );
  assert.equal(open.length, 1);
  assert.ok(links.some(({ url }) => url === open[0]?.["url"]));
});

test("a customer of another account or mode, or one that was deleted, is replaced, and that is said (F59)", async (t) => {
  const { server, checkout, portal } = await openShop(t);
  const id = await stage.newTenant();
  const row = { tenantId: id, stripeCustomerId: "cus_of_live_mode", updatedAt: stage.clock.now() };
  await stage.db.insertInto("tenantBilling").values(row).execute();
  await assert.rejects(portal(id), /cus_of_live_mode.*another account or mode/);
  const { customer } = await checkout(id);
  assert.equal(customer.replaced, "cus_of_live_mode");
  assert.equal((await findBilling(stage.db, id))?.stripeCustomerId, customer.id);
  const audit = await stage.db
    .selectFrom("auditLog")
    .select("detail")
    .where("action", "=", "billing.customer-linked")
    .execute();
  assert.deepEqual(audit, [{ detail: { customer: customer.id, replaced: "cus_of_live_mode" } }]);

  const headers = { authorization: `Bearer ${SECRET_KEY}` };
  const { statusCode } = await request(`${server.url}/v1/customers/${customer.id}`, { method: "DELETE", headers });
  assert.equal(statusCode, 200);
  const again = await checkout(id);
  assert.equal(again.customer.replaced, customer.id);
  assert.notEqual(again.customer.id, customer.id);
});

test("a customer whose link was lost is found again by whose it says it is, and never somebody else's of the same e-mail", async (t) => {
  const { server, checkout } = await openShop(t);
  const id = await stage.newTenant();
  const { email } = await getTenant(stage.db, id);
  server.addCustomer({ email, metadata: { tenant_id: "11111111-1111-4111-8111-111111111111" } });
  server.addCustomer({ email });
  const own = server.addCustomer({ email, metadata: { tenant_id: id } });
  assert.equal((await checkout(id)).customer.id, own.id);
});

test("a trial that still runs for two days goes on in the subscription; a shorter one doesn't", async (t) => {
  const { checkout, made } = await openShop(t);
  const [long, short] = [await stage.newTenant({ trialDays: 7 }), await stage.newTenant({ trialDays: 1 })];
  await checkout(long);
  await checkout(short);
  const [first, second] = made("POST /v1/checkout/sessions").map(({ params }) => params["subscription_data"]);
  const { trialEndsAt } = await getTenant(stage.db, long);
  assert.deepEqual(first, {
    metadata: { tenant_id: long },
    trial_end: String((trialEndsAt?.getTime() ?? 0) / 1_000),
  });
  assert.deepEqual(second, { metadata: { tenant_id: short } });
});

test("what can't be sold is refused before Stripe is asked", async (t) => {
  const { server, ctx, checkout } = await openShop(t);
  const id = await stage.newTenant();
  const tenant = await getTenant(stage.db, id);
  const unpriced = { ...PAGES, prices: { basic: undefined, plus: "price_plus" } };
  await assert.rejects(openCheckout(ctx, tenant, unpriced), /STRIPE_PRICE_BASIC/);
  await stage.db.updateTable("tenants").set({ billingExempt: true }).where("id", "=", id).execute();
  await assert.rejects(checkout(id), { code: "billing_exempt" });
  assert.equal(server.calls.length, 0);
});

test("Stripe's refusals and absences say what is wrong, and hold no key", async (t) => {
  const { server, ctx, checkout } = await openShop(t);
  const id = await stage.newTenant();
  const tenant = await getTenant(stage.db, id);
  const wrong = { ...PAGES, prices: { ...PRICES, basic: "price_gone" } };
  await assert.rejects(openCheckout(ctx, tenant, wrong), /No such price: 'price_gone'/);
  const other = { ...ctx, stripe: createStripeApi({ secretKey: "sk_test_wrong", apiBase: server.url }) };
  await assert.rejects(openCheckout(other, tenant, PAGES), (error: Error) => {
    assert.ok(!error.message.includes("sk_test_wrong"));
    return error.message.includes("STRIPE_SECRET_KEY");
  });
  server.failNext("POST /v1/checkout/sessions", { status: 500, body: { error: { type: "api_error", message: "x" } } });
  // Stripe repeats to a key what it said once.
  for (let times = 0; times < 2; times += 1) await assert.rejects(checkout(id), { kind: "upstream" });
  stage.clock.advance(60_000);
  assert.match((await checkout(id)).url, /^https:\/\/checkout/);
});
