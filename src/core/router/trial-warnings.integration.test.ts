import assert from "node:assert/strict";
import test from "node:test";
import { createTenant, updateTenant } from "../tenants/tenants.ts";
import { createBotApi } from "../adapters/telegram/bot-api.ts";
import { setUp } from "./test-setup.ts";
import { warnOfTrialEnds } from "./trial-warnings.ts";

const DAY_MS = 86_400_000;
const START = new Date("2026-11-20T10:00:00Z");
const signal = new AbortController().signal;

test("whoever lives on a trial alone is told three days and a day before its end, once each (F55)", async (t) => {
  const stage = await setUp(t);
  const { clock, telegram } = stage;
  const ctx = { ...stage, payLinks: async () => "https://example.com/signup" };
  const add = async (slug: string, telegramChatId: number, rest: object = {}) =>
    (await createTenant(ctx, { slug, email: `${slug}@example.com`, telegramChatId, trialDays: 7, ...rest })).tenant.id;
  const trial = await add("trial", 1);
  await add("exempt", 2, { billingExempt: true });
  await add("long", 3, { trialDays: 300 });
  const paying = await add("paying", 4);
  const row = { tenantId: paying, stripeCustomerId: "cus_1", updatedAt: START };
  await ctx.db.insertInto("tenantBilling").values(row).execute();
  const live = { id: "sub_1", tenantId: paying, status: "active", startedAt: START, updatedAt: START } as const;
  await ctx.db.insertInto("stripeSubscriptions").values(live).execute();
  const told = () => [1, 2, 3, 4].map((chat) => telegram.messages(chat).length);
  assert.equal(await warnOfTrialEnds(ctx, signal), 0);
  clock.advance(4 * DAY_MS);
  assert.deepEqual(await Promise.all([warnOfTrialEnds(ctx, signal), warnOfTrialEnds(ctx, signal)]).then(sum), 1);
  assert.deepEqual(told(), [1, 0, 0, 0]);
  clock.advance(2 * DAY_MS);
  for (let sweep = 0; sweep < 3; sweep += 1) await warnOfTrialEnds(ctx, signal);
  assert.deepEqual(told(), [2, 0, 0, 0]);
  assert.match(telegram.messages(1)[0]?.text ?? "", /ends on 2026-11-27 10:00 UTC.*subscribe here: https:/s);
  await updateTenant(ctx, trial, { trialDays: 1 });
  assert.equal(await warnOfTrialEnds(ctx, signal), 0, "the same end is told once");
  await updateTenant(ctx, trial, { trialDays: 2 });
  assert.equal(await warnOfTrialEnds(ctx, signal), 1, "another end is told again");
});

function sum(counts: number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}

test("what could not be told is told by a later sweep; a trial that is over is not warned of", async (t) => {
  const stage = await setUp(t);
  const { clock, telegram } = stage;
  const input = { slug: "late", email: "late@example.com", telegramChatId: 7, trialDays: 2 };
  await createTenant(stage, input);
  const away = createBotApi({ apiRoot: "http://127.0.0.1:9", token: "4242:secret" });
  t.after(() => away.close());
  const own = { ...stage, payLinks: async () => undefined };
  assert.equal(await warnOfTrialEnds({ ...own, botApi: away }, signal), 0);
  assert.equal(await warnOfTrialEnds(own, signal), 1);
  assert.equal(telegram.messages(7).length, 1);
  clock.advance(2 * DAY_MS);
  assert.equal(await warnOfTrialEnds(own, signal), 0);
});
