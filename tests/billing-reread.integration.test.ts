import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import Stripe from "stripe";
import { systemClock } from "../src/core/platform/clock.ts";
import { createTenant } from "../src/core/tenants/tenants.ts";
import { createTestDatabase } from "../src/core/testing/database.ts";
import { sendJson, startLoopback } from "../src/core/testing/fakes/loopback.ts";
import { subscriptionEvent } from "../src/core/testing/fakes/stripe-events.ts";
import { call, startDaemon } from "./daemon-process.ts";

const WAIT_MS = 30_000;

test("with a key, what Stripe says now is applied, whatever the event said when it was written", async (t) => {
  await using database = await createTestDatabase();
  const ctx = { db: database.db, clock: systemClock, actor: { name: "test" } };
  const { tenant } = await createTenant(ctx, { slug: "alice", email: "alice@example.com" });
  const event = subscriptionEvent({ status: "incomplete", created: 1_763_632_800, tenantId: tenant.id });
  const { object } = event.data;
  const asked: string[] = [];
  const stripe = await startLoopback(async (request, response) => {
    asked.push(`${request.headers.authorization} ${request.url}`);
    sendJson(response, 200, { ...object, status: "active" });
  });
  t.after(() => stripe.close());
  const secret = "whsec_reread";
  const daemon = await startDaemon(t, {
    DATABASE_URL: database.url,
    STRIPE_WEBHOOK_SECRET: secret,
    STRIPE_SECRET_KEY: "sk_test_reread",
    STRIPE_API_BASE: stripe.url,
  });
  await daemon.saw("working");
  const payload = JSON.stringify(event);
  const { status } = await call(`${daemon.publicUrl}/webhooks/stripe`, {
    method: "POST",
    headers: { "stripe-signature": Stripe.webhooks.generateTestHeaderString({ payload, secret }) },
    body: payload,
  });
  assert.equal(status, 200);
  for (const deadline = performance.now() + WAIT_MS; ; await delay(50)) {
    const { rows } = await database.pool.query("SELECT status FROM stripe_events");
    if (rows[0]?.status !== "pending") break;
    assert.ok(performance.now() < deadline, "the event is not applied");
  }
  const { rows } = await database.pool.query("SELECT status FROM stripe_subscriptions");
  assert.deepEqual(rows, [{ status: "active" }]);
  assert.deepEqual(asked, [`Bearer sk_test_reread /v1/subscriptions/${String(object["id"])}`]);
});
