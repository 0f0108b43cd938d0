import assert from "node:assert/strict";
import test from "node:test";
import { createBotApi } from "../adapters/telegram/bot-api.ts";
import { setTenantBudget, stopModels } from "../billing/billing.ts";
import type { TenantId } from "../platform/ids.ts";
import { tellBudgetWarnings } from "./budget-warnings.ts";
import { countDeliveries, countMessages, findLastDeliveries } from "./message-count.ts";
import { buttonTap, message, setUp, startRuntime } from "./test-setup.ts";

const HOUR_MS = 3_600_000;
const signal = new AbortController().signal;
const MONTH = "2026-11";

type Stage = Awaited<ReturnType<typeof setUp>>;

async function note({ db, clock }: Stage, tenantId: TenantId | null, ...percents: number[]): Promise<void> {
  const row = { tenantId, month: MONTH, measure: "tokens" as const, allowed: 500_000, warnedAt: clock.now() };
  await db
    .insertInto("budgetWarnings")
    .values(percents.map((percent) => ({ ...row, percent })))
    .execute();
}

test("subscriber and operator are told how far a budget is used, once each, and only of the highest mark", async (t) => {
  const stage = await setUp(t);
  const observed: object[] = [];
  const ctx = { ...stage, observe: (warning: object) => void observed.push(warning) };
  const [one, other] = [await stage.addTenant(1, null), await stage.addTenant(2, null)];
  await note(stage, one, 80);
  await note(stage, other, 80, 90, 100);
  await note(stage, null, 90);
  const told = await Promise.all([tellBudgetWarnings(ctx, signal), tellBudgetWarnings(ctx, signal)]);
  assert.equal(told[0] + told[1], 3);
  const texts = (chat: number) => stage.telegram.messages(chat).map(({ text }) => text);
  assert.match(texts(1).join(), /^Your assistant has used 80 % of what it may use this month\./);
  assert.match(texts(2).join(), /^Your assistant has used up what it may use this month\./);
  assert.deepEqual(observed.length, 3);
  assert.equal(stage.lines.filter((line) => line.includes("the fleet's model budget runs out")).length, 1);
  assert.equal(stage.lines.filter((line) => line.includes("a tenant's model budget runs out")).length, 2);
  assert.equal(await tellBudgetWarnings(ctx, signal), 0);
  assert.equal(texts(1).length, 1);
});

test("what could not be told is told by a later sweep", async (t) => {
  const stage = await setUp(t);
  const away = createBotApi({ apiRoot: "http://127.0.0.1:9", token: "4242:secret" });
  t.after(() => away.close());
  const ctx = { ...stage, observe: () => undefined };
  await note(stage, await stage.addTenant(1, null), 80, 90);
  assert.equal(await tellBudgetWarnings({ ...ctx, botApi: away }, signal), 0);
  assert.equal(stage.telegram.messages(1).length, 0);
  assert.equal(await tellBudgetWarnings(ctx, signal), 1);
  assert.equal(stage.telegram.messages(1).length, 1);
});

test("who has nothing left is told so and reaches no runtime until the budget is raised or the month is over (F17, F20)", async (t) => {
  const stage = await setUp(t);
  const runtime = await startRuntime(t);
  const tenantId = await stage.addTenant(7, runtime.url);
  const { acceptor } = await stage.route();
  const until = new Date("2026-12-01T00:00:00Z");
  const stop = () => stage.db.insertInto("budgetStops").values({ tenantId, measure: "tokens", until }).execute();
  await stop();
  await acceptor.accept(message(1, 7));
  await stage.untilOutcome(1, "answered");
  await acceptor.accept(buttonTap(2, 7));
  await stage.untilOutcome(2, "answered");
  assert.match(stage.telegram.messages(7).at(-1)?.text ?? "", /used up what it may use this month/);

  await setTenantBudget(stage, tenantId, { tokens: 1_000_000 });
  await acceptor.accept(message(3, 7));
  await stage.untilOutcome(3, "delivered");

  await stop();
  stage.clock.advance(until.getTime() - stage.clock.now().getTime());
  await acceptor.accept(message(4, 7));
  await stage.untilOutcome(4, "delivered");

  await stopModels(stage, "a key leaked");
  await acceptor.accept(message(5, 7));
  await stage.untilOutcome(5, "answered");
  assert.match(stage.telegram.messages(7).at(-1)?.text ?? "", /can't answer at the moment/);
  await stopModels(stage, null);
  await acceptor.accept(message(6, 7));
  await stage.untilOutcome(6, "delivered");
  assert.deepEqual(runtime.ids(), [3, 4, 6]);
});

test("messages that reach a runtime are counted by the day where its person lives", async (t) => {
  const stage = await setUp(t);
  const runtime = await startRuntime(t);
  const tenantId = await stage.addTenant(7, runtime.url);
  await stage.db.updateTable("tenants").set({ timeZone: "Asia/Tokyo" }).where("id", "=", tenantId).execute();
  const { acceptor } = await stage.route();
  await stage.db.updateTable("messageCounting").set({ countedUntil: stage.clock.now() }).execute();
  // 22:00 in Tokyo on the 20th.
  stage.clock.advance(3 * HOUR_MS);
  for (const id of [1, 2, 3]) await acceptor.accept(message(id, 7));
  await stage.untilOutcome(3, "delivered");
  await acceptor.accept(message(4, 7, { from: { id: 8, is_bot: false, first_name: "Bob" } }));
  await stage.untilOutcome(4, "ignored");
  assert.deepEqual(await countMessages(stage, tenantId, MONTH), { today: 3, month: 3 });
  stage.clock.advance(3 * HOUR_MS);
  await Promise.all([countDeliveries(stage, signal), countDeliveries(stage, signal)]);
  assert.deepEqual(await countMessages(stage, tenantId, MONTH), { today: 0, month: 3 });
  await acceptor.accept(message(5, 7));
  await stage.untilOutcome(5, "delivered");
  assert.deepEqual(await countMessages(stage, tenantId, MONTH), { today: 1, month: 4 });
  assert.deepEqual((await findLastDeliveries(stage.db, [tenantId])).get(tenantId), stage.clock.now());
  stage.clock.advance(HOUR_MS);
  await countDeliveries(stage, signal);
  await countDeliveries(stage, signal);
  assert.deepEqual(await countMessages(stage, tenantId, MONTH), { today: 1, month: 4 });
});
