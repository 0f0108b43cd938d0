import type { TestContext } from "node:test";
import { createStripeApi } from "../adapters/stripe/stripe-api.ts";
import { startStripeServer } from "../testing/fakes/stripe-server.ts";
import type { openBillingStage } from "./test-setup.ts";

export const SECRET_KEY = "sk_test_operator";

/** A loopback Stripe with both prices, and what speaks to it over the real SDK. */
export async function startShop(t: TestContext, stage: Awaited<ReturnType<typeof openBillingStage>>) {
  const server = await startStripeServer({ secretKey: SECRET_KEY, clock: stage.clock });
  t.after(() => server.close());
  server.addPrice("price_basic", 2_000);
  server.addPrice("price_plus", 5_000);
  const stripe = createStripeApi({ secretKey: SECRET_KEY, apiBase: server.url });
  return { server, stripe, ctx: { ...stage.context(), stripe, pool: stage.pool } };
}
