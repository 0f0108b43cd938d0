import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { openBillingStage, T0 } from "../src/core/billing/test-setup.ts";
import { chargeEvent } from "../src/core/testing/fakes/stripe-charge-events.ts";
import {
  checkoutEvent,
  type EventBody,
  invoiceEvent,
  subscriptionEvent,
} from "../src/core/testing/fakes/stripe-events.ts";
import { getTenant, listTenantEvents } from "../src/core/tenants/tenants.ts";
import type { TenantId } from "../src/core/platform/ids.ts";

const WAIT_MS = 30_000;

/** Each is touched at another step of the way from receipt to effect. */
const STEPS = [
  "stripe_events",
  "graphile_worker._private_jobs",
  "tenants",
  "stripe_charges",
  "audit_log",
  "tenant_billing",
  "stripe_subscriptions",
  "stripe_payments",
];

function eventsOf(tenantId: TenantId): EventBody[] {
  return [
    checkoutEvent({ created: T0, tenantId }),
    subscriptionEvent({ type: "created", status: "active", created: T0, tenantId, price: "price_plus" }),
    invoiceEvent({ type: "paid", created: T0 + 1 }),
    chargeEvent({ type: "succeeded", created: T0 }),
  ];
}

function start(url: string, events: readonly EventBody[]): ChildProcess {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, "billing-process.ts"), url], {
    stdio: ["pipe", "ignore", "inherit"],
  });
  child.stdin?.end(events.map((event) => `${JSON.stringify(event)}\n`).join(""));
  return child;
}

/** Starts a process that gets as far as `table` and is killed there. */
async function killAt(stage: Awaited<ReturnType<typeof openBillingStage>>, table: string, events: EventBody[]) {
  const client = await stage.pool.connect();
  try {
    await client.query(`BEGIN; LOCK TABLE ${table} IN EXCLUSIVE MODE`);
    const child = start(stage.url, events);
    const exit = once(child, "exit");
    const blocked =
      "SELECT FROM pg_stat_activity WHERE application_name = 'billing-process' AND wait_event_type = 'Lock' AND datname = current_database()";
    for (
      const deadline = performance.now() + WAIT_MS;
      (await stage.pool.query(blocked)).rowCount === 0;
      await delay(20)
    ) {
      if (child.exitCode !== null || performance.now() > deadline) throw new Error(`it does not get to ${table}`);
    }
    child.kill("SIGKILL");
    assert.deepEqual(await exit, [null, "SIGKILL"]);
  } finally {
    await client.query("ROLLBACK");
    client.release();
  }
}

/** What the dead process's connections were about is over. */
async function untilGone(stage: Awaited<ReturnType<typeof openBillingStage>>): Promise<void> {
  const left =
    "SELECT FROM pg_stat_activity WHERE application_name = 'billing-process' AND datname = current_database()";
  for (const deadline = performance.now() + WAIT_MS; (await stage.pool.query(left)).rowCount !== 0; await delay(20)) {
    if (performance.now() > deadline) throw new Error("its connections stay");
  }
}

test("kill -9 at every step between receipt and effect loses nothing and does nothing twice", async () => {
  await using stage = await openBillingStage();
  for (const table of STEPS) {
    await stage.reset();
    const tenantId = await stage.newTenant();
    const events = eventsOf(tenantId);
    await killAt(stage, table, events);
    await untilGone(stage);
    // Stripe sends again what was not answered.
    const [code] = await once(start(stage.url, events), "exit");
    assert.equal(code, 0);
    const { status, tier } = await getTenant(stage.db, tenantId);
    assert.deepEqual([status, tier], ["provisioning", "plus"], table);
    const audit = (await listTenantEvents(stage.db, tenantId, 50)).map(({ action }) => action);
    assert.deepEqual(audit.toSorted(), ["tenant.created", "tenant.status", "tenant.updated"], table);
    const rows = await stage.db.selectFrom("stripeEvents").select("status").execute();
    assert.deepEqual(
      rows.map((row) => row.status),
      events.map(() => "projected"),
      table,
    );
    for (const [name, count] of Object.entries({ stripe_charges: 1, stripe_payments: 1, stripe_subscriptions: 1 })) {
      assert.equal((await stage.pool.query(`SELECT FROM ${name}`)).rowCount, count, table);
    }
  }
});
