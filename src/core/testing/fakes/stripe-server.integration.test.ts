import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import Stripe from "stripe";
import { readStripeNews } from "../../adapters/stripe/stripe-event.ts";
import { verifyStripeEvent } from "../../adapters/stripe/webhook.ts";
import { startLoopback, readBody } from "./loopback.ts";
import { startStripeServer } from "./stripe-server.ts";

const KEY = "sk_test_loopback";

/** The real SDK, unpatched, against an account that sells at two prices. */
async function open(t: TestContext, options: { endpointShape?: "acacia" | "basil" } = {}) {
  const server = await startStripeServer({ secretKey: KEY, ...options });
  t.after(() => server.close());
  server.addPrice("price_basic", 2_000);
  server.addPrice("price_plus", 5_000);
  const { hostname: host, port } = new URL(server.url);
  const sdk = (key: string, apiVersion?: string) =>
    new Stripe(key, {
      host,
      port,
      protocol: "http",
      telemetry: false,
      maxNetworkRetries: 0,
      ...(apiVersion === undefined ? {} : { apiVersion }),
    } as Stripe.StripeConfig);
  return { server, sdk, stripe: sdk(KEY) };
}

async function refusalOf(asking: Promise<unknown>): Promise<[number | undefined, string | undefined, string]> {
  const error = await asking.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof Stripe.errors.StripeError, String(error));
  return [error.statusCode, error.code ?? error.rawType, error.message];
}

async function subscribe({ server, stripe }: Awaited<ReturnType<typeof open>>) {
  const { id: customer } = await stripe.customers.create({ email: "a@example.com", metadata: { tenant_id: "t-1" } });
  const session = await stripe.checkout.sessions.create({
    mode: "subscription",
    customer,
    line_items: [{ price: "price_basic", quantity: 1 }],
    metadata: { tenant_id: "t-1" },
    subscription_data: { metadata: { tenant_id: "t-1" } },
    success_url: "https://example.com",
  });
  const { subscription } = server.pay(session.id);
  return { customer, session, subscription: String(subscription) };
}

test("the SDK makes, changes, finds and deletes customers; what is gone or never was is told as Stripe tells it", async (t) => {
  const { server, stripe } = await open(t);
  const customer = await stripe.customers.create({ email: "a@example.com", metadata: { a: "1", b: "2" } });
  const changed = await stripe.customers.update(customer.id, { metadata: { b: "" }, name: "A & B" });
  assert.deepEqual([changed.name, { ...changed.metadata }], ["A & B", { a: "1" }]);
  const { data } = await stripe.customers.list({ email: "a@example.com" });
  assert.deepEqual(
    data.map(({ id }) => id),
    [customer.id],
  );
  await stripe.customers.del(customer.id);
  assert.equal((await stripe.customers.retrieve(customer.id)).deleted, true);
  server.account.otherMode.add("cus_live");
  assert.deepEqual(await refusalOf(stripe.customers.retrieve("cus_live")), [
    404,
    "resource_missing",
    "No such customer: 'cus_live'; a similar object exists in live mode, but a test mode key was used to make this request.",
  ]);
  const [status, code] = await refusalOf(
    stripe.billingPortal.sessions.create({ customer: customer.id, return_url: "https://example.com" }),
  );
  assert.deepEqual([status, code], [400, "resource_missing"]);
});

test("a paid checkout leaves a subscription with its metadata, a paid invoice, a charge and signed events (F52)", async (t) => {
  const opened = await open(t);
  const { server, stripe } = opened;
  const { customer, session, subscription } = await subscribe(opened);
  const bought = await stripe.subscriptions.retrieve(subscription, { expand: ["latest_invoice"] });
  assert.deepEqual([bought.status, { ...bought.metadata }], ["active", { tenant_id: "t-1" }]);
  assert.ok(typeof bought.latest_invoice === "object" && bought.latest_invoice !== null);
  assert.deepEqual([bought.latest_invoice.status, bought.latest_invoice.amount_paid], ["paid", 2_000]);
  const charges = await stripe.charges.list({ customer });
  assert.deepEqual([charges.data[0]?.amount, charges.has_more], [2_000, false]);
  assert.equal((await stripe.checkout.sessions.retrieve(session.id)).payment_status, "paid");
  assert.deepEqual(
    server.events.map(({ type }) => type),
    [
      "customer.created",
      "checkout.session.completed",
      "customer.subscription.created",
      "charge.succeeded",
      "invoice.paid",
      "invoice.payment_succeeded",
    ],
  );
  const received: { rawBody: Buffer; signature: string }[] = [];
  const receiver = await startLoopback(async (request, response) => {
    received.push({ rawBody: await readBody(request), signature: String(request.headers["stripe-signature"]) });
    response.end();
  });
  t.after(() => receiver.close());
  for (const event of server.events) assert.equal(await server.deliver(receiver.url, event, "whsec_1"), 200);
  for (const { rawBody, signature } of received) {
    const { type } = verifyStripeEvent(rawBody, signature, ["whsec_1"]);
    if (type !== "customer.created") assert.ok(readStripeNews(type, JSON.parse(rawBody.toString())));
  }
  assert.equal(received.length, 6);
});

test("versions before 2025-03-31 get the old shapes, in answers and in events; the news in both is the same", async (t) => {
  for (const endpointShape of ["acacia", "basil"] as const) {
    const opened = await open(t, { endpointShape });
    const { server, sdk } = opened;
    const { subscription } = await subscribe(opened);
    const old = sdk(KEY, "2024-06-20");
    const [then, since] = [
      JSON.parse(JSON.stringify(await old.subscriptions.retrieve(subscription))),
      JSON.parse(JSON.stringify(await opened.stripe.subscriptions.retrieve(subscription))),
    ];
    assert.equal(typeof then.current_period_end, "number");
    assert.equal(since.current_period_end, undefined);
    assert.equal(since.items.data[0].current_period_end, then.current_period_end);
    const news = (object: unknown) => readStripeNews("customer.subscription.updated", { data: { object } });
    assert.deepEqual(news(then), news(since));
    const paid = server.events.find(({ type }) => type === "invoice.paid");
    assert.equal(paid?.data.object["subscription"], endpointShape === "acacia" ? subscription : undefined);
    const read = readStripeNews("invoice.paid", paid);
    assert.ok(read?.kind === "invoice-paid");
    assert.deepEqual([read.subscriptionId, read.tenantReferences], [subscription, ["t-1"]]);
    assert.equal(read.payment.chargeId === undefined, endpointShape === "basil");
  }
});

test("lists come page by page, newest first, without canceled subscriptions unless they are asked for", async (t) => {
  const { server, stripe } = await open(t);
  const ids = Array.from({ length: 7 }, () => server.addSubscription({ customer: "cus_1", price: "price_basic" }).id);
  await stripe.subscriptions.cancel(ids[3] ?? "");
  const first = await stripe.subscriptions.list({ status: "all", limit: 3 });
  assert.deepEqual([first.data.map(({ id }) => id), first.has_more], [ids.toReversed().slice(0, 3), true]);
  const all: string[] = [];
  for await (const { id } of stripe.subscriptions.list({ status: "all", limit: 3 })) all.push(id);
  assert.deepEqual(all, ids.toReversed());
  const live = await stripe.subscriptions.list({ limit: 100 });
  assert.equal(live.data.length, 6);
  assert.deepEqual((await refusalOf(stripe.subscriptions.list({ starting_after: "sub_none" })))[1], "resource_missing");
  assert.deepEqual((await refusalOf(stripe.subscriptions.list({ limit: 101 })))[1], "parameter_invalid_integer");
});

test("one idempotency key makes one object: again the same, other parameters refused, at the same time a conflict", async (t) => {
  const { server, stripe } = await open(t);
  const options = { idempotencyKey: "once" };
  const made = await stripe.customers.create({ email: "a@example.com" }, options);
  const again = await stripe.customers.create({ email: "a@example.com" }, options);
  assert.deepEqual([again.id, again.lastResponse.headers["idempotent-replayed"]], [made.id, "true"]);
  const other = await refusalOf(stripe.customers.create({ email: "b@example.com" }, options));
  assert.deepEqual(other.slice(0, 2), [400, "idempotency_error"]);
  const held = server.hold("POST /v1/customers");
  const one = stripe.customers.create({ email: "c@example.com" }, { idempotencyKey: "both" });
  const two = stripe.customers.create({ email: "c@example.com" }, { idempotencyKey: "both" });
  await server.waitFor(({ status }) => status === 409);
  held.release();
  const ends = await Promise.allSettled([one, two]);
  assert.deepEqual(ends.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
  assert.equal((await stripe.customers.list({ email: "c@example.com" })).data.length, 1);
});

test("wrong keys, unknown addresses and parameters, limits and faults are answered as by Stripe", async (t) => {
  const { server, sdk, stripe } = await open(t);
  const [status, , message] = await refusalOf(sdk("sk_test_of_somebody_else").customers.list());
  assert.deepEqual([status, message.includes("of_somebody")], [401, false]);
  assert.deepEqual((await refusalOf(stripe.coupons.list()))[0], 404);
  const unknown = stripe.customers.create({ emial: "a@example.com" } as Stripe.CustomerCreateParams);
  assert.deepEqual((await refusalOf(unknown)).slice(0, 2), [400, "parameter_unknown"]);
  server.limitNext("GET /v1/customers", 2);
  const asked = [];
  for (let count = 0; count < 3; count++)
    asked.push(
      await stripe.customers.list().then(
        () => 200,
        (error: Stripe.errors.StripeError) => error.statusCode,
      ),
    );
  assert.deepEqual(asked, [429, 429, 200]);
  server.failNext("POST /v1/customers", { status: 500, body: { error: { type: "api_error", message: "Oops" } } });
  // What failed within Stripe is remembered with its key.
  for (let count = 0; count < 2; count++) {
    const [failed] = await refusalOf(stripe.customers.create({}, { idempotencyKey: "fails" }));
    assert.equal(failed, 500);
  }
  assert.deepEqual(server.calls.map((call) => call.status).slice(-3), [200, 500, 500]);
});

test("a payment that takes days, a declined renewal, an upgrade, a dispute and a refund are told in their events", async (t) => {
  const opened = await open(t);
  const { server, stripe } = opened;
  const customer = server.addCustomer();
  const session = await stripe.checkout.sessions.create({
    mode: "subscription",
    customer: customer.id,
    line_items: [{ price: "price_basic", quantity: 1 }],
    success_url: "https://example.com",
  });
  const subscription = String(server.pay(session.id, "unpaid")["subscription"]);
  assert.equal(server.object("checkout.session", session.id)["payment_status"], "unpaid");
  server.settle(session.id, "succeeded");
  server.renew(subscription, "retrying");
  assert.equal((await stripe.subscriptions.retrieve(subscription)).status, "past_due");
  const upgraded = await stripe.subscriptions.update(subscription, {
    items: [{ price: "price_plus" }],
    cancel_at_period_end: true,
  });
  assert.deepEqual([upgraded.items.data[0]?.price.id, upgraded.cancel_at_period_end], ["price_plus", true]);
  const [charge] = (await stripe.charges.list()).data;
  const dispute = server.dispute(charge?.id ?? "");
  server.closeDispute(dispute.id, "lost");
  server.refund(charge?.id ?? "");
  await stripe.customers.del(customer.id);
  assert.deepEqual(
    server.events.map(({ type }) => type),
    [
      "checkout.session.completed",
      "customer.subscription.created",
      "charge.succeeded",
      "invoice.paid",
      "invoice.payment_succeeded",
      "checkout.session.async_payment_succeeded",
      "invoice.payment_failed",
      "customer.subscription.updated",
      "customer.subscription.updated",
      "charge.dispute.created",
      "charge.dispute.closed",
      "charge.refunded",
      "customer.subscription.deleted",
      "customer.deleted",
    ],
  );
  const listed = await stripe.events.list({ limit: 1 });
  assert.deepEqual(
    listed.data.map(({ type }) => type),
    ["customer.deleted"],
  );
});
