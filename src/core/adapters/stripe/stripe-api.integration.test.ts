import assert from "node:assert/strict";
import { inspect } from "node:util";
import test, { type TestContext } from "node:test";
import { UpstreamError } from "../../platform/errors.ts";
import { sendJson, startLoopback } from "../../testing/fakes/loopback.ts";
import { createStripeApi, type StripeObjectKind } from "./stripe-api.ts";

const KEY = "sk_test_loopback_51abc";

type Reply = { status: number; body: unknown; headers?: Record<string, string> };

/** A Stripe that answers by path, and remembers what it was asked. */
async function start(t: TestContext, replies: Record<string, Reply>) {
  const asked: { path: string; authorization: string | undefined }[] = [];
  const server = await startLoopback(async (request, response) => {
    const path = request.url ?? "";
    asked.push({ path, authorization: request.headers.authorization });
    const { status, body, headers } = replies[path] ?? missing(path);
    sendJson(response, status, body, headers);
  });
  t.after(() => server.close());
  return { asked, api: createStripeApi({ secretKey: KEY, apiBase: server.url }) };
}

function failure(status: number, type: string, code: string, message: string): Reply {
  return { status, body: { error: { type, code, message } }, headers: { "stripe-should-retry": "false" } };
}

const missing = (path: string) =>
  failure(404, "invalid_request_error", "resource_missing", `No such object: '${path}'`);

async function failureOf(reading: Promise<unknown>): Promise<UpstreamError> {
  const error = await reading.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof UpstreamError);
  assert.ok(!inspect(error, { depth: 10 }).includes("51abc"));
  return error;
}

test("each kind is read from its place, with the key, as Stripe has it", async (t) => {
  const paths: Record<StripeObjectKind, string> = {
    subscription: "/v1/subscriptions/x_1",
    invoice: "/v1/invoices/x_1",
    charge: "/v1/charges/x_1",
    customer: "/v1/customers/x_1",
    dispute: "/v1/disputes/x_1",
    "checkout.session": "/v1/checkout/sessions/x_1",
  };
  const body = { id: "x_1", metadata: { tenant_id: "t" }, items: { object: "list", data: [{ id: "si_1" }] } };
  const { api, asked } = await start(
    t,
    Object.fromEntries(Object.values(paths).map((path) => [path, { status: 200, body }])),
  );
  for (const [kind, path] of Object.entries(paths) as [StripeObjectKind, string][]) {
    assert.deepEqual(JSON.parse(JSON.stringify(await api.retrieve(kind, "x_1"))), body);
    assert.deepEqual(asked.at(-1), { path, authorization: `Bearer ${KEY}` });
  }
});

test("what Stripe doesn't have, or has deleted, is undefined", async (t) => {
  const { api } = await start(t, { "/v1/customers/cus_1": { status: 200, body: { id: "cus_1", deleted: true } } });
  assert.equal(await api.retrieve("subscription", "sub_of_another_account"), undefined);
  assert.equal(await api.retrieve("customer", "cus_1"), undefined);
});

test("refusals are told apart, and none of them repeats the key", async (t) => {
  const { api } = await start(t, {
    "/v1/charges/ch_1": failure(401, "invalid_request_error", "api_key_invalid", `Invalid API Key provided: ${KEY}`),
    "/v1/charges/ch_2": failure(429, "invalid_request_error", "rate_limit", "Too many requests"),
    "/v1/charges/ch_3": failure(500, "api_error", "", "An unknown error occurred"),
  });
  const codes = [];
  for (const id of ["ch_1", "ch_2", "ch_3"]) {
    const { code, retryable } = await failureOf(api.retrieve("charge", id));
    codes.push([code, retryable]);
  }
  assert.deepEqual(codes, [
    ["stripe-key-refused", false],
    ["stripe-busy", true],
    ["stripe-failed", true],
  ]);
});

test("a Stripe that can't be reached is said to be so", async () => {
  const api = createStripeApi({ secretKey: KEY, apiBase: "http://127.0.0.1:1" });
  const { code, retryable } = await failureOf(api.retrieve("charge", "ch_1"));
  assert.deepEqual([code, retryable], ["stripe-unreachable", true]);
});
