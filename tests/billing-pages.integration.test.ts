import assert from "node:assert/strict";
import { after, before, beforeEach, test, type TestContext } from "node:test";
import { openBillingStage } from "../src/core/billing/test-setup.ts";
import { startStripeServer } from "../src/core/testing/fakes/stripe-server.ts";
import { documentOf, expectCode, openFolder } from "./command.ts";

const SECRET_KEY = "sk_test_operator";

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(() => stage.reset());

async function openShop(t: TestContext) {
  const server = await startStripeServer({ secretKey: SECRET_KEY });
  t.after(() => server.close());
  server.addPrice("price_basic", 2_000);
  const env = {
    DATABASE_URL: stage.url,
    STRIPE_SECRET_KEY: SECRET_KEY,
    STRIPE_API_BASE: server.url,
    STRIPE_PRICE_BASIC: "price_basic",
    OPENCLAW_SIGNUP_URL: "https://example.com/signup",
  };
  const id = await stage.newTenant();
  return { server, env, id, slug: `tenant-${stage.tenants}` };
}

test("a checkout's page is printed alone, or in one document; what is missing says how to mend it", async (t) => {
  const { env, slug, server } = await openShop(t);
  const openclaw = await openFolder(t, env);
  const { stdout } = expectCode(await openclaw("billing", "checkout", slug), 0);
  assert.match(stdout, /^https:\/\/checkout\.stripe\.com\/\S+\n$/);
  const document = documentOf(expectCode(await openclaw("billing", "checkout", slug, "--json"), 0));
  assert.equal(document["url"], stdout.trim());
  assert.match(expectCode(await openclaw("billing", "portal", slug), 0).stdout, /^https:\/\/billing\.stripe\.com/);
  expectCode(await openclaw("billing", "checkout", "nobody"), 4);
  expectCode(await openclaw("billing", "checkout", slug, "--success-url", "javascript:alert(1)"), 2);
  assert.match(
    expectCode(await openclaw("billing", "checkout", slug, "--tier", "plus"), 3).stderr,
    /STRIPE_PRICE_PLUS/,
  );
  const { STRIPE_SECRET_KEY: _key, ...keyless } = env;
  const without = await openFolder(t, keyless);
  assert.match(expectCode(await without("billing", "checkout", slug), 3).stderr, /STRIPE_SECRET_KEY is not set/);
  const { OPENCLAW_SIGNUP_URL: _url, ...homeless } = env;
  const nowhere = await openFolder(t, homeless);
  assert.match(expectCode(await nowhere("billing", "portal", slug), 3).stderr, /OPENCLAW_SIGNUP_URL|--return-url/);
  await server.close();
  assert.ok(!expectCode(await openclaw("billing", "portal", slug), 6).stderr.includes(SECRET_KEY));
});

test("a second subscription is exit 5; a replaced customer is said aside (F59)", async (t) => {
  const { env, slug, id, server } = await openShop(t);
  const openclaw = await openFolder(t, env);
  const row = { tenantId: id, stripeCustomerId: "cus_of_live_mode", updatedAt: stage.clock.now() };
  await stage.db.insertInto("tenantBilling").values(row).execute();
  assert.match(expectCode(await openclaw("billing", "portal", slug), 5).stderr, /another account or mode/);
  const { stdout, stderr } = expectCode(await openclaw("billing", "checkout", slug), 0);
  assert.match(stderr, /Stripe has no customer cus_of_live_mode; .* is linked to cus_/);
  server.pay(/cs_[A-Za-z0-9_]+/.exec(stdout)?.[0] ?? assert.fail());
  assert.match(expectCode(await openclaw("billing", "checkout", slug), 5).stderr, /has a subscription already/);
  expectCode(await openclaw("billing", "sync"), 0);
  assert.match(expectCode(await openclaw("billing", "show", slug), 0).stdout, /subscription +sub_\S+, active/);
  const shown = documentOf(expectCode(await openclaw("billing", "show", slug, "--json"), 0));
  assert.deepEqual(shown["tenant"], slug);
});

test("a comparison with Stripe repairs, says what it did, and is repeated without effect", async (t) => {
  const { env, slug, id, server } = await openShop(t);
  const openclaw = await openFolder(t, env);
  const customer = server.addCustomer();
  server.addSubscription({ customer: customer.id, price: "price_basic", metadata: { tenant_id: id } });
  server.addSubscription({ customer: customer.id, price: "price_basic" });
  const dry = documentOf(expectCode(await openclaw("billing", "sync", "--dry-run", "--json"), 0));
  const { stdout, stderr } = expectCode(await openclaw("billing", "sync"), 0);
  assert.match(stdout, new RegExp(`${slug} +sub_\\S+ +repaired +.*tenantStatus: – → provisioning`));
  assert.match(stderr, /2 compared: 0 same, 1 repaired, 1 of no tenant/);
  assert.deepEqual(dry["counts"], { same: 0, repaired: 1, unmatched: 1, "unknown-in-stripe": 0, failed: 0 });
  const again = documentOf(expectCode(await openclaw("billing", "sync", slug, "--json"), 0));
  assert.deepEqual(again["counts"], { same: 1, repaired: 0, unmatched: 1, "unknown-in-stripe": 0, failed: 0 });
  expectCode(await openclaw("billing", "sync", slug, "--restart"), 2);
  expectCode(await openclaw("billing", "sync", "nobody"), 4);
});
