import assert from "node:assert/strict";
import test from "node:test";
import {
  checkoutEvent,
  invoiceEvent,
  signStripeEvent,
  stripeEvent,
  subscriptionEvent,
} from "../../testing/fakes/stripe-events.ts";
import { verifyStripeEvent } from "./webhook.ts";

const SECRET = "whsec_current";
const OLD_SECRET = "whsec_previous";
const event = subscriptionEvent({ created: 1_760_000_000, status: "active" });

function refusal(code: string) {
  return (error: unknown) => error instanceof Error && "code" in error && error.code === code;
}

test("a body signed by the real SDK is read as plain data (F52)", () => {
  const { rawBody, header } = signStripeEvent(event, SECRET);
  assert.deepEqual(verifyStripeEvent(rawBody, header, [SECRET]), {
    id: event.id,
    type: "customer.subscription.updated",
    apiVersion: "2025-06-30.basil",
    createdAt: new Date(1_760_000_000_000),
    lane: "cus_1",
  });
});

test("either secret is accepted while one is being rolled", () => {
  const { rawBody, header } = signStripeEvent(event, OLD_SECRET);
  assert.equal(verifyStripeEvent(rawBody, header, [SECRET, OLD_SECRET]).id, event.id);
  assert.throws(() => verifyStripeEvent(rawBody, header, [SECRET]), refusal("signature_invalid"));
});

test("any of several v1 signatures in any order is enough, other schemes are not", () => {
  const { rawBody, header } = signStripeEvent(event, SECRET);
  const [time = "", signature = ""] = header.split(",");
  assert.equal(verifyStripeEvent(rawBody, `${time},v1=${"0".repeat(64)},${signature}`, [SECRET]).id, event.id);
  assert.equal(verifyStripeEvent(rawBody, `${signature},v0=abc,${time}`, [SECRET]).id, event.id);
  assert.throws(
    () => verifyStripeEvent(rawBody, `${time},${signature.replace("v1", "v0")}`, [SECRET]),
    refusal("signature_invalid"),
  );
});

test("what isn't signed for this body, this secret and this time is refused (F92)", () => {
  const { rawBody, header } = signStripeEvent(event, SECRET);
  const reserialised = Buffer.from(JSON.stringify(JSON.parse(rawBody.toString())));
  const old = signStripeEvent(event, SECRET, 1_760_000_000);
  const attempts: [Buffer, string | undefined, string[]][] = [
    [reserialised, header, [SECRET]],
    [rawBody, undefined, [SECRET]],
    [rawBody, "", [SECRET]],
    [rawBody, "t=,v1=", [SECRET]],
    [rawBody, header, []],
    [rawBody, header, [""]],
    [old.rawBody, old.header, [SECRET]],
    [Buffer.alloc(0), header, [SECRET]],
  ];
  for (const [body, signature, secrets] of attempts) {
    assert.throws(() => verifyStripeEvent(body, signature, secrets), refusal("signature_invalid"));
  }
});

test("a signed body that is no snapshot event is refused", () => {
  const thin = {
    id: "evt_1",
    object: "v2.core.event",
    type: "v2.core.account.updated",
    created: "2026-01-01T00:00:00Z",
  };
  for (const body of [thin, [], null, "text", 7, { id: "evt_1" }, { ...event, data: {} }, { ...event, type: 5 }]) {
    const { rawBody, header } = signStripeEvent(body, SECRET);
    assert.throws(() => verifyStripeEvent(rawBody, header, [SECRET]), refusal("event_invalid"), JSON.stringify(body));
  }
});

test("events of one customer share a lane, whatever they are about", () => {
  const created = 1_760_000_000;
  const bodies = [
    event,
    checkoutEvent({ created }),
    invoiceEvent({ type: "paid", created }),
    stripeEvent(
      "customer.subscription.updated",
      { ...event.data.object, customer: { id: "cus_1", object: "customer" } },
      { created },
    ),
    stripeEvent("customer.updated", { id: "cus_1", object: "customer" }, { created }),
  ];
  for (const body of bodies) {
    const { rawBody, header } = signStripeEvent(body, SECRET);
    assert.equal(verifyStripeEvent(rawBody, header, [SECRET]).lane, "cus_1");
  }
});
