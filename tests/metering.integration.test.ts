import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { ceilingOf, createMeter, createPriceTable } from "../src/core/billing/billing.ts";
import { openBillingStage } from "../src/core/billing/test-setup.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import type { DaemonId, TenantId } from "../src/core/platform/ids.ts";
import { createLog } from "../src/core/platform/log.ts";
import { documentOf, expectCode, openFolder, temporaryFolder } from "./command.ts";

const MODEL = "claude-haiku-4-5";
const USAGE = {
  inputTokens: 1_000,
  outputTokens: 200,
  cacheReadTokens: 5_000,
  cacheWriteTokens: 300,
  cacheWriteHourTokens: 0,
};
const COST = 1_000 + 1_000 + 500 + 375;

let stage: Awaited<ReturnType<typeof openBillingStage>>;
before(async () => {
  stage = await openBillingStage();
});
after(() => stage[Symbol.asyncDispose]());
beforeEach(() => stage.reset());

function openMeter() {
  return createMeter({
    pool: stage.pool,
    clock: systemClock,
    log: createLog("error", { write: () => true }),
    daemonId: randomUUID() as DaemonId,
    prices: createPriceTable(),
    readModels: async () => ({ basic: [MODEL], plus: [MODEL] }),
  });
}

async function newTenant(): Promise<{ id: TenantId; slug: string }> {
  const id = await stage.newTenant();
  await stage.db.updateTable("tenants").set({ status: "active", billingExempt: true }).where("id", "=", id).execute();
  return { id, slug: `tenant-${stage.tenants}` };
}

async function call(tenantId: TenantId): Promise<string> {
  const meter = openMeter();
  const price = meter.findPrice(MODEL) ?? assert.fail();
  const ceiling = ceilingOf({ inputTokens: 7_000, outputTokens: 200 }, price);
  const answer = await meter.reserve({ tenantId, model: MODEL, ceiling });
  if (answer.kind === "refused") return answer.refusal.reason;
  await meter.settle(answer.reservation, { kind: "measured", usage: USAGE });
  return "reserved";
}

test("what a tenant has used is shown against its budget, with every kind of token", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: stage.url });
  const { id, slug } = await newTenant();
  await call(id);
  const shown = expectCode(await openclaw("tenant", "usage", slug), 0).stdout;
  assert.match(shown, /tokens +1500 of 500000 \(0 %\)/);
  assert.match(shown, /money +\$0\.002875, no limit/);
  assert.match(shown, /claude-haiku-4-5 +1 +0 +1000 +200 +5000 +300 +\$0\.002875/);
  const usage = documentOf(expectCode(await openclaw("tenant", "usage", slug, "--json"), 0));
  assert.deepEqual(usage["spent"], { tokens: 1_500, microUsd: COST });
  assert.deepEqual(usage["messages"], { today: 0, month: 0 });
  const earlier = documentOf(expectCode(await openclaw("tenant", "usage", slug, "--month", "2020-01", "--json"), 0));
  assert.deepEqual(earlier["spent"], { tokens: 0, microUsd: 0 });
  expectCode(await openclaw("tenant", "usage", slug, "--month", "2020-13"), 2);
  expectCode(await openclaw("tenant", "usage", "nobody"), 4);
});

test("a budget bites from the next call on, and raising it lets the tenant go on", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: stage.url });
  const { id, slug } = await newTenant();
  expectCode(await openclaw("billing", "budget", "set", slug, "--tokens", "7199", "--usd", "1.5"), 0);
  assert.equal(await call(id), "tenant-budget");
  expectCode(await openclaw("billing", "budget", "set", slug, "--tokens", "60000"), 0);
  const budget = documentOf(expectCode(await openclaw("billing", "budget", "show", slug, "--json"), 0));
  assert.deepEqual(budget["allowed"], { tokens: 60_000, microUsd: 1_500_000 });
  while ((await call(id)) === "reserved");
  const spent = documentOf(expectCode(await openclaw("billing", "budget", "show", slug, "--json"), 0));
  assert.equal(spent["stop"], "usedUp");
  expectCode(await openclaw("billing", "budget", "set", slug, "--tokens", "default", "--usd", "none"), 0);
  assert.equal(await call(id), "reserved");
  expectCode(await openclaw("billing", "budget", "set", "--default", "--tokens", "100"), 0);
  assert.equal(await call(id), "tenant-budget");
  expectCode(await openclaw("billing", "budget", "set", "--default", "--tokens", "500000"), 0);
  for (const args of [[slug], ["--tokens", "5"], ["--default", "--usd", "5"], [slug, "--usd", "1.1234567"]])
    expectCode(await openclaw("billing", "budget", "set", ...args), 2);
  const audit = await stage.db.selectFrom("auditLog").select("action").where("actor", "=", "ops").execute();
  assert.equal(audit.filter(({ action }) => action.startsWith("budget.")).length, 5);
});

test("the cap over all tenants and the kill switch hold for everybody", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: stage.url });
  const { id } = await newTenant();
  expectCode(await openclaw("billing", "budget", "cap", "--usd", "0.001"), 0);
  assert.equal(await call(id), "fleet-budget");
  expectCode(await openclaw("billing", "budget", "uncap"), 2);
  expectCode(await openclaw("billing", "budget", "uncap", "--confirm", "uncapped"), 0);
  assert.equal(await call(id), "reserved");
  expectCode(await openclaw("billing", "budget", "cap", "--stop", "--reason", "a key leaked"), 0);
  assert.equal(await call(id), "stopped");
  assert.match(expectCode(await openclaw("billing", "budget", "show"), 0).stdout, /stopped +since .*a key leaked/);
  expectCode(await openclaw("billing", "budget", "uncap", "--stop"), 0);
  assert.equal(await call(id), "reserved");
  expectCode(await openclaw("billing", "budget", "cap"), 2);
  const fleet = documentOf(expectCode(await openclaw("billing", "budget", "cap", "--usd", "100", "--json"), 0));
  assert.equal(fleet["allowedMicroUsd"], 100_000_000);
});

test("prices come built in, are overridden by a file, and name the models of a tier that have none", async (t) => {
  const folder = await temporaryFolder(t);
  const file = path.join(folder, "prices.json");
  await writeFile(
    file,
    JSON.stringify({ house: { input: 0.5, output: 2, contextTokens: 32_000, outputTokens: 4_096 } }),
  );
  const env = { DATABASE_URL: stage.url, OPENCLAW_PRICES_FILE: file, OPENCLAW_MODEL_BASIC: "house,unheard-of" };
  const openclaw = await openFolder(t, env);
  const table = expectCode(await openclaw("billing", "prices"), 0);
  assert.match(table.stdout, /house +0\.5 +2 +0\.5 +0\.5 +0\.5 +– +basic/);
  assert.match(table.stderr, /Without a price, and refused: unheard-of/);
  const prices = documentOf(expectCode(await openclaw("billing", "prices", "--json"), 0));
  assert.deepEqual(prices["withoutPrice"], ["unheard-of"]);
  await call((await newTenant()).id);
  const { versions } = documentOf(expectCode(await openclaw("billing", "prices", "--versions", "--json"), 0));
  assert.equal((versions as { version: string }[]).at(-1)?.version, createPriceTable().version);
  await writeFile(file, "{");
  assert.match(expectCode(await openclaw("billing", "prices"), 3).stderr, /OPENCLAW_PRICES_FILE/);
});

test("a report is a table, one JSON document, or CSV, and all say the same", async (t) => {
  const openclaw = await openFolder(t, { DATABASE_URL: stage.url });
  const { id, slug } = await newTenant();
  await stage.db.deleteFrom("usageRecords").execute();
  await call(id);
  await call(id);
  const table = expectCode(await openclaw("billing", "report"), 0).stdout;
  assert.match(table, /all +2 +0 +3000 +\$0\.005750/);
  assert.match(table, new RegExp(`${slug} +basic +2 +3000 +\\$0\\.005750`));
  const report = documentOf(expectCode(await openclaw("billing", "report", "--json"), 0));
  assert.equal(report["marginMicroUsd"], -2 * COST);
  const csv = expectCode(await openclaw("billing", "report", "--csv"), 0)
    .stdout.trimEnd()
    .split("\n");
  assert.equal(csv.length, 2);
  const month = new Date().toISOString().slice(0, 7);
  assert.equal(csv[1], `${month},${slug},${id},basic,2,0,3000,${2 * COST},,0,0,0,0`);
  expectCode(await openclaw("billing", "report", "--csv", "--json"), 2);
  expectCode(await openclaw("billing", "report", "--month", "last"), 2);
});
