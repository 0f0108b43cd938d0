import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { openBillingStage, T0 } from "../src/core/billing/test-setup.ts";
import { chargeEvent } from "../src/core/testing/fakes/stripe-charge-events.ts";
import { checkoutEvent, invoiceEvent } from "../src/core/testing/fakes/stripe-events.ts";
import { changeStatus, forgetTenant, getTenant } from "../src/core/tenants/tenants.ts";
import { documentOf, expectCode, openFolder } from "./command.ts";

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(() => stage.reset());

const events = ["billing", "events"];

/** A subscriber who paid, and an event that belongs to nobody. */
async function deliverSome() {
  const tenantId = await stage.newTenant();
  const bought = checkoutEvent({ id: "evt_bought", created: T0, tenantId });
  const foreign = invoiceEvent({
    id: "evt_foreign",
    type: "paid",
    subscription: "sub_x",
    customer: "cus_x",
    created: T0,
  });
  await stage.deliver(bought, foreign);
  return { tenantId, slug: `tenant-${stage.tenants}` };
}

test("events are listed and shown as facts; the payload only when asked for, and that is kept (F91)", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: stage.url });
  const { slug } = await deliverSome();
  const table = expectCode(await openclaw(...events, "list"), 0).stdout;
  assert.match(table, /^RECEIVED +ID +TYPE +STATUS +TENANT/);
  assert.match(table, new RegExp(`evt_bought +checkout.session.completed +projected +${slug}`));
  const unmatched = documentOf(expectCode(await openclaw(...events, "list", "--status", "unmatched", "--json"), 0));
  assert.equal(unmatched["total"], 1);
  const ofTenant = documentOf(expectCode(await openclaw(...events, "list", "--tenant", slug, "--json"), 0));
  assert.equal(ofTenant["total"], 1);
  const shown = expectCode(await openclaw(...events, "show", "evt_bought"), 0).stdout;
  assert.match(shown, /status +projected/);
  for (const output of [table, shown, JSON.stringify(ofTenant)]) assert.ok(!output.includes("subscriber@example.com"));
  const whole = documentOf(expectCode(await openclaw(...events, "show", "evt_bought", "--payload", "--json"), 0));
  assert.ok(JSON.stringify(whole["payload"]).includes("subscriber@example.com"));
  const audit = await stage.db
    .selectFrom("auditLog")
    .select("actor")
    .where("action", "=", "stripe-event.read")
    .execute();
  assert.deepEqual(audit, [{ actor: "ops" }]);
  assert.match(expectCode(await openclaw(...events, "show", "evt_none"), 4).stderr, /openclaw billing events list/);
});

test("what is replayed is pending again; ids that are not there are exit 7, alone exit 4, and all of them must be meant", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: stage.url });
  await deliverSome();
  const statuses = async () =>
    (await stage.db.selectFrom("stripeEvents").select("status").orderBy("id").execute()).map(({ status }) => status);
  const dry = documentOf(expectCode(await openclaw(...events, "replay", "--all", "--dry-run", "--json"), 0));
  assert.deepEqual(dry, { wouldReplay: ["evt_bought", "evt_foreign"], left: [] });
  assert.deepEqual(await statuses(), ["projected", "unmatched"]);
  const some = documentOf(expectCode(await openclaw(...events, "replay", "evt_none", "evt_foreign", "--json"), 7));
  assert.deepEqual(some, { replayed: ["evt_foreign"], left: ["evt_none"] });
  assert.deepEqual(await statuses(), ["projected", "pending"]);
  expectCode(await openclaw(...events, "replay", "evt_none"), 4);
  for (const args of [[], ["evt_bought", "--all"], ["--all", "--type", "invoice.paid"]]) {
    expectCode(await openclaw(...events, "replay", ...args), 2);
  }
  const typed = ["--type", "checkout.session.completed", "--since", "2026-01-01T00:00:00Z"];
  assert.match(expectCode(await openclaw(...events, "replay", ...typed), 0).stderr, /1 events are applied again/);
});

test("a deleted tenant is restored or purged by an operator; after the purge a restore says so (exit 5)", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: stage.url });
  const id = await stage.newTenant();
  const slug = `tenant-${stage.tenants}`;
  for (const change of [
    { to: "deprovisioning", reason: "asked" },
    { to: "deleted", reason: "gone", retentionDays: 10_000 },
  ] as const)
    await stage.db.transaction().execute((tx) => changeStatus({ ...stage.context(), db: tx }, id, change));
  expectCode(await openclaw("tenant", "restore", slug), 5);
  const restored = documentOf(expectCode(await openclaw("tenant", "restore", slug, "--unpaid", "--json"), 0));
  assert.equal(restored["status"], "pending");
  assert.match(expectCode(await openclaw("tenant", "purge", slug, "--confirm", slug), 5).stderr, /deprovision/);
  const tenant = await getTenant(stage.db, id);
  await stage.db.transaction().execute((tx) => forgetTenant({ ...stage.context(), db: tx }, tenant));
  assert.match(expectCode(await openclaw("tenant", "restore", slug), 5).stderr, /was purged on 2026-03-01/);
  expectCode(await openclaw("tenant", "restore", "nobody"), 4);
});

test("an operator lifts a refund's block, with a reason that is kept", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: stage.url });
  const { tenantId, slug } = await deliverSome();
  await stage.deliver(chargeEvent({ created: T0 + 50, charged: T0, tenantId }));
  const lifted = documentOf(expectCode(await openclaw("billing", "unblock", slug, "--reason", "settled", "--json"), 0));
  assert.deepEqual(lifted, { tenant: slug, status: "provisioning", charges: ["ch_1"] });
  assert.match(expectCode(await openclaw("billing", "unblock", slug), 0).stderr, /Nothing blocks/);
  const audit = await stage.db
    .selectFrom("auditLog")
    .select("reason")
    .where("action", "=", "billing.unblocked")
    .execute();
  assert.deepEqual(audit, [{ reason: "settled" }]);
});
