import assert from "node:assert/strict";
import test, { after, before, beforeEach, type TestContext } from "node:test";
import { createPayLinks } from "./billing.ts";
import { startShop } from "./shop-test-setup.ts";
import { openBillingStage } from "./test-setup.ts";

const SIGNUP = "https://example.com/signup";

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(() => stage.reset());

async function openShop(t: TestContext) {
  const { server, stripe } = await startShop(t, stage);
  const common = { ...stage.context(), signupUrl: SIGNUP, publicUrl: undefined };
  return { server, common, links: createPayLinks({ ...common, stripe }) };
}

test("who has not paid gets a checkout, who has gets the portal", async (t) => {
  const { server, links } = await openShop(t);
  const id = await stage.newTenant();
  const checkout = (await links(id)) ?? "";
  assert.match(checkout, /^https:\/\/checkout\.stripe\.com/);
  assert.equal(await links(id), checkout);
  server.pay(/cs_[A-Za-z0-9_]+/.exec(checkout)?.[0] ?? assert.fail());
  assert.match((await links(id)) ?? "", /^https:\/\/billing\.stripe\.com/);
});

test("without a key, a price or Stripe, the sign-up page stands in", async (t) => {
  const { server, common, links } = await openShop(t);
  const id = await stage.newTenant();
  assert.equal(await createPayLinks({ ...common, stripe: undefined })(id), SIGNUP);
  await server.close();
  assert.equal(await links(id), SIGNUP);
});
