import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test, { after, before, beforeEach } from "node:test";
import fc from "fast-check";
import { sql } from "kysely";
import type { DaemonId, TenantId } from "../../platform/ids.ts";
import { createLog } from "../../platform/log.ts";
import { openBillingStage, START } from "../test-setup.ts";
import { createMeter, type Meter, settleLostCalls } from "./meter.ts";
import { ceilingOf, costOf, createPriceTable, findPrice } from "./prices.ts";
import { countTokens, NO_USAGE, type TokenUsage } from "./usage.ts";

const MODEL = "claude-haiku-4-5";
const prices = createPriceTable();
const price = findPrice(prices, MODEL) ?? assert.fail();
const silent = createLog("error", { write: () => true });
const signal = new AbortController().signal;
let stage: Awaited<ReturnType<typeof openBillingStage>>;

before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(async () => {
  await stage.reset();
  await sql`TRUNCATE usage_records, usage_reservations, usage_months, fleet_usage_months`.execute(stage.db);
  await sql`UPDATE spending_limits SET tokens_per_month = 500000, micro_usd_per_month = 100000000,
    capped_until = NULL, stopped_at = NULL, stopped_reason = NULL`.execute(stage.db);
});

function openMeter(daemonId = randomUUID() as DaemonId, log = silent): Meter {
  const { pool, clock } = stage;
  const readModels = async () => ({ basic: [MODEL, "unpriced"], plus: [MODEL, "claude-sonnet-4-5"] });
  return createMeter({ pool, clock, log, daemonId, prices, readModels });
}

/** One that runs. */
async function newTenant(more: { timeZone?: string; budgetExempt?: boolean; tokens?: number; microUsd?: number } = {}) {
  const tenantId = await stage.newTenant({ trialDays: 300 });
  await stage.db
    .updateTable("tenants")
    .set({
      status: "active",
      provisioningDeadline: null,
      timeZone: more.timeZone ?? "UTC",
      budgetExempt: more.budgetExempt ?? false,
    })
    .where("id", "=", tenantId)
    .execute();
  await stage.db
    .insertInto("tenantBudgets")
    .values({
      tenantId,
      tokensPerMonth: more.tokens ?? null,
      microUsdPerMonth: more.microUsd ?? null,
      updatedAt: stage.clock.now(),
    })
    .execute();
  return tenantId;
}

function ask(meter: Meter, tenantId: TenantId, tokens = { inputTokens: 900, outputTokens: 100 }, model = MODEL) {
  return meter.reserve({ tenantId, model, ceiling: ceilingOf(tokens, price) });
}

async function reserve(meter: Meter, tenantId: TenantId, tokens?: { inputTokens: number; outputTokens: number }) {
  const answer = await ask(meter, tenantId, tokens);
  if (answer.kind === "refused") assert.fail(answer.refusal.message);
  return answer.reservation;
}

async function reasonOf(answer: ReturnType<typeof ask>): Promise<string> {
  const given = await answer;
  return given.kind === "reserved" ? "reserved" : given.refusal.reason;
}

async function readMonths(tenantId: TenantId) {
  return stage.db
    .selectFrom("usageMonths")
    .select(["month", "calls", "tokens", "costMicroUsd"])
    .where("tenantId", "=", tenantId)
    .orderBy("month")
    .execute();
}

async function countReservations(): Promise<number> {
  return (await stage.db.selectFrom("usageReservations").select("id").execute()).length;
}

const readWarnings = () =>
  stage.db.selectFrom("budgetWarnings").select(["tenantId", "measure", "percent", "allowed"]).orderBy("id").execute();

test("of 50 calls at once on two daemons, exactly those get through for which there is room", async () => {
  const tenantId = await newTenant({ tokens: 10_999 });
  const meters = [openMeter(), openMeter()] as const;
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, nth) => ask(meters[nth % 2] ?? meters[0], tenantId)),
  );
  const granted = answers.flatMap((answer) => (answer.kind === "reserved" ? [answer.reservation] : []));
  assert.equal(granted.length, 10);
  const usage = { ...NO_USAGE, inputTokens: 900, outputTokens: 100 };
  await Promise.all(granted.map((one) => meters[0].settle(one, { kind: "measured", usage })));
  const costMicroUsd = 10 * costOf(usage, price);
  assert.deepEqual(await readMonths(tenantId), [{ month: "2026-03", calls: 10, tokens: 10_000, costMicroUsd }]);
  assert.equal(await countReservations(), 0);
});

test("money is a limit of its own, and so is the fleet's cap", async () => {
  const ceiling = ceilingOf({ inputTokens: 900, outputTokens: 100 }, price);
  const poor = await newTenant({ microUsd: 3 * ceiling.costMicroUsd });
  const meter = openMeter();
  const answers = await Promise.all(Array.from({ length: 5 }, () => reasonOf(ask(meter, poor))));
  assert.deepEqual(answers.sort(), ["reserved", "reserved", "reserved", "tenant-budget", "tenant-budget"]);

  await sql`UPDATE spending_limits SET micro_usd_per_month = ${5 * ceiling.costMicroUsd}`.execute(stage.db);
  const others = await Promise.all([newTenant(), newTenant({ budgetExempt: true }), newTenant()]);
  const reasons = await Promise.all(others.map((tenantId) => reasonOf(ask(meter, tenantId))));
  assert.deepEqual(reasons.sort(), ["fleet-budget", "reserved", "reserved"]);
  const capped = async () =>
    (await stage.db.selectFrom("spendingLimits").select("cappedUntil").executeTakeFirstOrThrow()).cappedUntil;
  assert.equal(await capped(), null, "calls under way may cost less than they might");
  await sql`INSERT INTO fleet_usage_months VALUES ('2026-03', 1, 1, ${5 * ceiling.costMicroUsd})`.execute(stage.db);
  assert.equal(await reasonOf(ask(meter, others[0] ?? assert.fail())), "fleet-budget");
  assert.deepEqual(await capped(), new Date("2026-04-01T00:00:00Z"));
});

test("nothing is reserved for who may not run, for a model of another plan or without a price, or while all is stopped", async () => {
  const tenantId = await newTenant();
  const meter = openMeter();
  assert.equal(await reasonOf(ask(meter, randomUUID() as TenantId)), "barred");
  assert.equal(await reasonOf(ask(meter, tenantId, undefined, "claude-sonnet-4-5")), "model-not-offered");
  assert.equal(await reasonOf(ask(meter, tenantId, undefined, "unpriced")), "model-not-offered");
  assert.equal(await reasonOf(ask(meter, tenantId)), "reserved");

  await stage.db.updateTable("spendingLimits").set({ stoppedAt: START, stoppedReason: "leak" }).execute();
  assert.equal(await reasonOf(ask(meter, tenantId)), "stopped");
  await stage.db.updateTable("spendingLimits").set({ stoppedAt: null, stoppedReason: null }).execute();

  await stage.db.updateTable("tenants").set({ trialEndsAt: START }).where("id", "=", tenantId).execute();
  assert.equal(await reasonOf(ask(meter, tenantId)), "barred");
  await stage.db.updateTable("tenants").set({ billingExempt: true }).where("id", "=", tenantId).execute();
  assert.equal(await reasonOf(ask(meter, tenantId)), "reserved");
  await stage.db
    .updateTable("tenants")
    .set({ status: "suspended", suspendedBy: "operator" })
    .where("id", "=", tenantId)
    .execute();
  assert.equal(await reasonOf(ask(meter, tenantId)), "barred");
});

test("a tenant that is exempt from budgets is metered all the same", async () => {
  const tenantId = await newTenant({ tokens: 1, budgetExempt: true });
  const meter = openMeter();
  const reservation = await reserve(meter, tenantId);
  await meter.settle(reservation, { kind: "measured", usage: { ...NO_USAGE, inputTokens: 7 } });
  assert.deepEqual(await readMonths(tenantId), [{ month: "2026-03", calls: 1, tokens: 7, costMicroUsd: 7 }]);
  assert.deepEqual(await readWarnings(), []);
});

test("a call counts in the month in which it began where its tenant lives, and for the fleet in that of UTC (F64)", async () => {
  const east = await newTenant({ timeZone: "Pacific/Auckland", tokens: 1_000 });
  const west = await newTenant({ timeZone: "America/Los_Angeles", tokens: 1_000 });
  stage.clock.advance(new Date("2026-03-31T23:00:00Z").getTime() - START.getTime());
  const meter = openMeter();
  const calls = await Promise.all([reserve(meter, east), reserve(meter, west)]);
  stage.clock.advance(2 * 3_600_000);
  const usage = { ...NO_USAGE, inputTokens: 1_000 };
  for (const call of calls) await meter.settle(call, { kind: "measured", usage });
  assert.equal((await readMonths(east))[0]?.month, "2026-04");
  assert.equal((await readMonths(west))[0]?.month, "2026-03");
  const fleet = await stage.db.selectFrom("fleetUsageMonths").selectAll().execute();
  assert.deepEqual(fleet, [{ utcMonth: "2026-03", calls: 2, tokens: 2_000, costMicroUsd: 2_000 }]);
  // East has spent April's, west goes on in its March.
  assert.equal(await reasonOf(ask(meter, east)), "tenant-budget");
  assert.equal(await reasonOf(ask(meter, west)), "tenant-budget");
  stage.clock.advance(24 * 3_600_000);
  assert.equal(await reasonOf(ask(meter, west)), "reserved");
});

test("a call that cost nothing leaves no trace, and one with an unknown end counts as it was reserved", async () => {
  const tenantId = await newTenant();
  const meter = openMeter();
  await meter.settle(await reserve(meter, tenantId), { kind: "free" });
  assert.deepEqual(await readMonths(tenantId), []);
  await meter.settle(await reserve(meter, tenantId), { kind: "unknown" });
  const prompt = { ...NO_USAGE, inputTokens: 300, cacheReadTokens: 600 };
  await meter.settle(await reserve(meter, tenantId), { kind: "unknown", prompt });
  const records = await stage.db.selectFrom("usageRecords").selectAll().orderBy("inputTokens").execute();
  assert.deepEqual(
    records.map(({ inputTokens, outputTokens, cacheReadTokens, costMicroUsd, isAssumed }) => ({
      inputTokens,
      outputTokens,
      cacheReadTokens,
      costMicroUsd,
      isAssumed,
    })),
    [
      { inputTokens: 300, outputTokens: 100, cacheReadTokens: 600, costMicroUsd: 860, isAssumed: true },
      {
        inputTokens: 900,
        outputTokens: 100,
        cacheReadTokens: 0,
        costMicroUsd: ceilingOf({ inputTokens: 900, outputTokens: 100 }, price).costMicroUsd,
        isAssumed: true,
      },
    ],
  );
});

test("a dead daemon's calls are settled as they were reserved, a living one's only when their time is over; a late end changes nothing", async () => {
  const tenantId = await newTenant();
  const [dead, alive] = [randomUUID() as DaemonId, randomUUID() as DaemonId];
  for (const [id, seen] of [
    [dead, "1 minute"],
    [alive, "0"],
  ] as const) {
    await sql`INSERT INTO daemons (id, roles, version, host, pid, seen_at)
      VALUES (${id}, '{gateway}', '1', 'h', 1, now() - ${seen}::interval)`.execute(stage.db);
  }
  const [lostMeter, meter] = [openMeter(dead), openMeter(alive)];
  const lost = await reserve(lostMeter, tenantId);
  const open = await reserve(meter, tenantId);
  const ctx = { pool: stage.pool, clock: stage.clock, log: silent };
  assert.equal(await settleLostCalls(ctx, signal), 0);
  stage.clock.advance(61_000);
  assert.equal(await settleLostCalls(ctx, signal), 1);
  assert.deepEqual(await readMonths(tenantId), [
    { month: "2026-03", calls: 1, tokens: 1_000, costMicroUsd: lost.ceiling.costMicroUsd },
  ]);
  await lostMeter.settle(lost, { kind: "measured", usage: { ...NO_USAGE, inputTokens: 5 } });
  stage.clock.advance(30 * 60_000);
  assert.equal(await settleLostCalls(ctx, signal), 1);
  await meter.settle(open, { kind: "free" });
  assert.equal((await readMonths(tenantId))[0]?.tokens, 2_000);
  assert.equal(await countReservations(), 0);
});

test("a call that can't be settled holds up no other", async () => {
  const tenantId = await newTenant();
  const meter = openMeter();
  const [poisoned, sound] = [await reserve(meter, tenantId), await reserve(meter, tenantId)];
  const usage = { ...NO_USAGE, inputTokens: 5 };
  const impossible = { ...usage, cacheWriteHourTokens: 9 };
  await Promise.all([
    meter.settle(poisoned, { kind: "measured", usage: impossible }),
    meter.settle(sound, { kind: "measured", usage }),
  ]);
  assert.equal((await readMonths(tenantId))[0]?.tokens, 5);
  assert.equal(await countReservations(), 1);
});

test("calls that end while nothing can be written are settled when it can, as they were counted", async () => {
  const tenantId = await newTenant();
  const lines: string[] = [];
  const meter = openMeter(randomUUID() as DaemonId, createLog("warn", { write: (line) => void lines.push(line) }));
  const calls = await Promise.all([reserve(meter, tenantId), reserve(meter, tenantId), reserve(meter, tenantId)]);
  await sql`ALTER TABLE usage_months RENAME TO elsewhere`.execute(stage.db);
  const usage = { ...NO_USAGE, inputTokens: 5 };
  const settling = Promise.all(calls.map((call) => meter.settle(call, { kind: "measured", usage })));
  while (lines.length < 3) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(await countReservations(), 3);
  await sql`ALTER TABLE elsewhere RENAME TO usage_months`.execute(stage.db);
  await settling;
  assert.equal((await readMonths(tenantId))[0]?.tokens, 15);
  assert.equal(await countReservations(), 0);
});

test("80, 90 and 100 % are each noted once, and again under another budget", async () => {
  const tenantId = await newTenant({ tokens: 10_000 });
  const meter = openMeter();
  const spend = async (inputTokens: number) =>
    meter.settle(await reserve(meter, tenantId, { inputTokens, outputTokens: 0 }), {
      kind: "measured",
      usage: { ...NO_USAGE, inputTokens },
    });
  for (const tokens of [7_999, 1, 500, 500, 999, 1]) await spend(tokens);
  const percents = async () => (await readWarnings()).map(({ percent }) => percent);
  assert.deepEqual(await percents(), [80, 90, 100]);
  const stops = await stage.db.selectFrom("budgetStops").selectAll().execute();
  assert.deepEqual(stops, [{ tenantId, measure: "tokens", until: new Date("2026-04-01T00:00:00Z") }]);
  await stage.db.updateTable("tenantBudgets").set({ tokensPerMonth: 20_000 }).execute();
  await spend(6_000);
  await spend(100);
  assert.deepEqual(await percents(), [80, 90, 100, 80]);
});

test("who is refused an ordinary call has used a budget up; one too large, or others under way, mean nothing", async () => {
  const tenantId = await newTenant({ tokens: 10_000 });
  const meter = openMeter();
  assert.equal(await reasonOf(ask(meter, tenantId, { inputTokens: 10_001, outputTokens: 0 })), "tenant-budget");
  const most = await reserve(meter, tenantId, { inputTokens: 9_000, outputTokens: 0 });
  assert.equal(await reasonOf(ask(meter, tenantId, { inputTokens: 1_001, outputTokens: 0 })), "tenant-budget");
  assert.deepEqual(await readWarnings(), []);
  await meter.settle(most, { kind: "measured", usage: { ...NO_USAGE, inputTokens: 8_800 } });
  assert.equal(await reasonOf(ask(meter, tenantId, { inputTokens: 1_250, outputTokens: 0 })), "tenant-budget");
  assert.deepEqual(
    (await readWarnings()).map(({ percent }) => percent),
    [80, 100],
  );
});

const smallUsage = fc.record({
  inputTokens: fc.nat(900),
  outputTokens: fc.nat(100),
  cacheReadTokens: fc.nat(500),
  cacheWriteTokens: fc.constant(0),
  cacheWriteHourTokens: fc.constant(0),
});
const calls = fc.array(
  fc.record({
    tenant: fc.nat(2),
    daemon: fc.nat(1),
    hoursLater: fc.nat(60),
    end: fc.oneof(
      smallUsage.map((usage) => ({ kind: "measured" as const, usage })),
      fc.constantFrom({ kind: "free" as const }, { kind: "unknown" as const }, { kind: "lost" as const }),
    ),
  }),
  { minLength: 5, maxLength: 40 },
);

test("whatever the order of calls, ends and crashes: records add up to the counters, and no budget is overshot", async () => {
  await fc.assert(
    fc.asyncProperty(calls, async (sequence) => {
      await sql`TRUNCATE usage_records, usage_reservations, usage_months, fleet_usage_months`.execute(stage.db);
      await stage.reset();
      const tenants = await Promise.all(
        ["UTC", "Pacific/Kiritimati", "America/St_Johns"].map((timeZone) => newTenant({ timeZone, tokens: 6_000 })),
      );
      const meters = [openMeter(), openMeter()];
      stage.clock.advance(28 * 86_400_000);
      const expected: TokenUsage[] = [];
      const ending = sequence.map(async ({ tenant, daemon, hoursLater, end }) => {
        const [tenantId, meter] = [tenants[tenant], meters[daemon]];
        if (tenantId === undefined || meter === undefined) return;
        stage.clock.advance((hoursLater * 3_600_000) / sequence.length);
        const answer = await ask(meter, tenantId);
        if (answer.kind === "refused") return;
        const all = { ...NO_USAGE, inputTokens: 900, outputTokens: 100 };
        if (end.kind !== "free") expected.push(end.kind === "measured" ? end.usage : all);
        if (end.kind !== "lost") await meter.settle(answer.reservation, end);
      });
      await Promise.all(ending);
      stage.clock.advance(3_600_000);
      await settleLostCalls({ pool: stage.pool, clock: stage.clock, log: silent }, signal);
      assert.equal(await countReservations(), 0);
      const { rows } = await sql<{ source: string; calls: number; tokens: number; cost: number }>`
        SELECT 'records' AS source, count(*) AS calls, coalesce(sum(input_tokens + output_tokens + cache_write_tokens), 0)::bigint AS tokens,
          coalesce(sum(cost_micro_usd), 0)::bigint AS cost FROM usage_records
        UNION ALL SELECT 'months', coalesce(sum(calls), 0)::bigint, coalesce(sum(tokens), 0)::bigint, coalesce(sum(cost_micro_usd), 0)::bigint FROM usage_months
        UNION ALL SELECT 'fleet', coalesce(sum(calls), 0)::bigint, coalesce(sum(tokens), 0)::bigint, coalesce(sum(cost_micro_usd), 0)::bigint FROM fleet_usage_months`.execute(
        stage.db,
      );
      const tokens = expected.reduce((sum, usage) => sum + countTokens(usage), 0);
      for (const row of rows) {
        assert.equal(row.calls, expected.length, row.source);
        assert.equal(row.tokens, tokens, row.source);
        assert.equal(row.cost, rows[0]?.cost, row.source);
      }
      const { rows: over } = await sql`SELECT FROM usage_months WHERE tokens > 6000`.execute(stage.db);
      assert.equal(over.length, 0);
    }),
    { numRuns: Number(process.env["OPENCLAW_TEST_RUNS"] ?? 30) },
  );
});
