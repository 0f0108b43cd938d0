import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test, { after, before, beforeEach } from "node:test";
import fc from "fast-check";
import { sql } from "kysely";
import { chargeEvent } from "../../testing/fakes/stripe-charge-events.ts";
import { invoiceEvent, subscriptionEvent } from "../../testing/fakes/stripe-events.ts";
import type { DaemonId } from "../../platform/ids.ts";
import { createLog } from "../../platform/log.ts";
import { openBillingStage, START, T0 } from "../test-setup.ts";
import { createMeter } from "./meter.ts";
import { ceilingOf, createPriceTable } from "./prices.ts";
import { type Cost, readReport } from "./report.ts";
import { keepRevenueOf } from "./report-store.ts";
import { readModelUse } from "./usage-report.ts";

const MODELS = ["claude-haiku-4-5", "claude-haiku-5-5", "gpt-5-mini"];
const ZONES = ["UTC", "Pacific/Kiritimati", "America/St_Johns", "Asia/Kathmandu", "Pacific/Pago_Pago"];
const HOUR_MS = 3_600_000;

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(() => reset());

async function reset(): Promise<void> {
  await stage.reset();
  await sql`TRUNCATE usage_records, usage_reservations, usage_months, fleet_usage_months, purged_revenue`.execute(
    stage.db,
  );
}

const usage = fc.record({
  inputTokens: fc.nat(50_000),
  outputTokens: fc.nat(4_000),
  cacheReadTokens: fc.nat(90_000),
  cacheWriteTokens: fc.integer({ min: 10, max: 9_000 }),
  cacheWriteHourTokens: fc.nat(10),
});
const month = fc.array(
  fc.record({ tenant: fc.nat(4), model: fc.constantFrom(...MODELS), hoursLater: fc.nat(48), usage }),
  { minLength: 20, maxLength: 60 },
);

test("over a random month in many time zones, records, counters and reports add up to the same", async () => {
  const prices = createPriceTable();
  await fc.assert(
    fc.asyncProperty(month, async (calls) => {
      await reset();
      const tenants = await Promise.all(ZONES.map(() => stage.newTenant({ trialDays: 300 })));
      for (const [nth, timeZone] of ZONES.entries()) {
        const change = { status: "active" as const, provisioningDeadline: null, timeZone, budgetExempt: true };
        await stage.db
          .updateTable("tenants")
          .set({ ...change, tier: nth % 2 === 0 ? "basic" : "plus" })
          .where("id", "=", tenants[nth] ?? assert.fail())
          .execute();
      }
      await sql`UPDATE spending_limits SET micro_usd_per_month = NULL`.execute(stage.db);
      const meter = createMeter({
        pool: stage.pool,
        clock: stage.clock,
        log: createLog("error", { write: () => true }),
        daemonId: randomUUID() as DaemonId,
        prices,
        readModels: async () => ({ basic: MODELS, plus: MODELS }),
      });
      // From a day before a month's end on, so that every zone's month begins at another call.
      stage.clock.advance(new Date("2026-03-30T10:00:00Z").getTime() - START.getTime());
      for (const call of calls) {
        stage.clock.advance(call.hoursLater * HOUR_MS);
        const tenantId = tenants[call.tenant] ?? assert.fail();
        const price = meter.findPrice(call.model) ?? assert.fail();
        const ceiling = ceilingOf({ inputTokens: 200_000, outputTokens: 4_000 }, price);
        const answer = await meter.reserve({ tenantId, model: call.model, ceiling });
        if (answer.kind === "refused") assert.fail(answer.refusal.message);
        await meter.settle(answer.reservation, { kind: "measured", usage: call.usage });
      }
      const expectedTokens = calls.reduce(
        (sum, call) => sum + call.usage.inputTokens + call.usage.outputTokens + call.usage.cacheWriteTokens,
        0,
      );

      const ofTenants = { calls: 0, tokens: 0, costMicroUsd: 0 };
      const rows = await stage.db.selectFrom("usageMonths").selectAll().execute();
      for (const { tenantId, month: own, ...counted } of rows) {
        const models = await readModelUse(stage.db, tenantId, own);
        const sums = {
          calls: total(models, ({ calls: count }) => count),
          tokens: total(models, (use) => use.inputTokens + use.outputTokens + use.cacheWriteTokens),
          costMicroUsd: total(models, (use) => use.costMicroUsd),
        };
        assert.deepEqual(counted, sums);
        ofTenants.calls += sums.calls;
        ofTenants.tokens += sums.tokens;
        ofTenants.costMicroUsd += sums.costMicroUsd;
      }
      assert.equal(ofTenants.tokens, expectedTokens);

      const ofReports = { calls: 0, tokens: 0, costMicroUsd: 0 };
      const fleet = await stage.db.selectFrom("fleetUsageMonths").selectAll().execute();
      for (const { utcMonth, ...counted } of fleet) {
        const { cost, tenants: lines, marginMicroUsd } = await readReport(stage.db, utcMonth);
        const parts: (readonly Cost[])[] = [[cost], cost.tiers, cost.models, lines];
        for (const part of parts) {
          assert.equal(
            total(part, (one) => one.calls),
            counted.calls,
          );
          assert.equal(
            total(part, (one) => one.tokens),
            counted.tokens,
          );
          assert.equal(
            total(part, (one) => one.costMicroUsd),
            counted.costMicroUsd,
          );
        }
        assert.equal(marginMicroUsd, -counted.costMicroUsd);
        ofReports.calls += counted.calls;
        ofReports.tokens += counted.tokens;
        ofReports.costMicroUsd += counted.costMicroUsd;
      }
      assert.deepEqual(ofReports, ofTenants);
    }),
    { numRuns: Number(process.env["OPENCLAW_TEST_RUNS"] ?? 10) },
  );
});

function total<Row>(rows: readonly Row[], pick: (row: Row) => number): number {
  return rows.reduce((sum, row) => sum + pick(row), 0);
}

test("revenue counts what was paid and what was taken back of it, and stays when a tenant is purged", async () => {
  const tenantId = await stage.newTenant();
  const common = { subscription: "sub_1", customer: "cus_1", created: T0 };
  await stage.deliver(
    subscriptionEvent({ id: "evt_1", type: "created", status: "active", tenantId, ...common }),
    invoiceEvent({ id: "evt_2", type: "paid", tenantId, ...common }),
    chargeEvent({ id: "evt_3", type: "refunded", amountRefundedCents: 250, customer: "cus_1", created: T0 + 1 }),
  );
  const report = await readReport(stage.db, "2026-03");
  const [dollars] = report.revenue;
  assert.ok(dollars !== undefined && dollars.payments === 1 && dollars.grossCents > 0);
  assert.equal(dollars.takenBackCents, 250);
  assert.equal(dollars.netCents, dollars.grossCents - 250);
  assert.deepEqual((await readReport(stage.db, "2026-02")).revenue, []);

  await stage.db.transaction().execute(async (tx) => {
    await keepRevenueOf(tx, tenantId);
    await tx.deleteFrom("tenants").where("id", "=", tenantId).execute();
  });
  assert.deepEqual(await readReport(stage.db, "2026-03"), report);
});

test("what was taken back stands in the month of its payment, though the charge was made in the month before", async () => {
  const tenantId = await stage.newTenant();
  const midnight = Date.parse("2026-04-01T00:00:00Z") / 1_000;
  const common = { subscription: "sub_1", customer: "cus_1", created: midnight + 5 };
  await stage.deliver(
    subscriptionEvent({ id: "evt_1", type: "created", status: "active", tenantId, ...common }),
    invoiceEvent({ id: "evt_2", type: "paid", tenantId, ...common }),
    chargeEvent({ id: "evt_3", type: "refunded", customer: "cus_1", created: midnight + 60, charged: midnight - 2 }),
  );
  assert.deepEqual((await readReport(stage.db, "2026-03")).revenue, []);
  const [april] = (await readReport(stage.db, "2026-04")).revenue;
  assert.deepEqual([april?.payments, april?.netCents], [1, 0]);
});
