import assert from "node:assert/strict";
import test from "node:test";
import { createLink } from "../tenants/tenants.ts";
import { buttonTap, message, setUp, startRuntime, until } from "./test-setup.ts";

const HOUR_MS = 3_600_000;

test("a chat that nobody knows is told how to begin, at most once an hour", async (t) => {
  const ctx = await setUp(t);
  const { acceptor } = await ctx.route();
  for (const id of [1, 2, 3]) await acceptor.accept(message(id, 7));
  await ctx.untilOutcome(3, "answered");
  assert.deepEqual(
    ctx.telegram.messages(7).map((sent) => sent.text?.includes("https://example.com/signup")),
    [true],
  );
  ctx.clock.advance(HOUR_MS);
  await acceptor.accept(message(4, 7));
  await ctx.untilOutcome(4, "answered");
  assert.equal(ctx.telegram.messages(7).length, 2);
});

test("a group is told once that it is not served, and binds nothing (F25)", async (t) => {
  const ctx = await setUp(t);
  const { acceptor } = await ctx.route();
  const tenantId = await ctx.addTenant(7, null);
  await ctx.pool.query("UPDATE tenants SET telegram_chat_id = NULL, telegram_user_id = NULL");
  const { token } = await createLink(ctx, tenantId);
  const group = { id: -100_500, type: "supergroup", title: "Friends" };
  await acceptor.accept(message(1, 7, { chat: group, text: `/start ${token}` }));
  await acceptor.accept(message(2, 7, { chat: group }));
  await ctx.untilOutcome(2, "answered");
  assert.equal(ctx.telegram.messages(group.id).length, 1);
  const { rows } = await ctx.pool.query("SELECT telegram_chat_id FROM tenants");
  assert.deepEqual(rows, [{ telegram_chat_id: null }]);
});

test("a deep link binds the chat once, and what is written next is delivered (F16, F26)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  const { acceptor } = await ctx.route();
  const tenantId = await ctx.addTenant(7, runtime.url);
  await ctx.pool.query("UPDATE tenants SET telegram_chat_id = NULL, telegram_user_id = NULL");
  const { token } = await createLink(ctx, tenantId);
  for (const id of [1, 2]) await acceptor.accept(message(id, 7, { text: `/start ${token}` }));
  await acceptor.accept(message(3, 9, { text: `/start ${token}` }));
  await acceptor.accept(message(4, 7));
  await ctx.untilOutcome(4, "delivered");
  await ctx.untilOutcome(3, "answered");
  assert.deepEqual(runtime.ids(), [4]);
  const said = ctx.telegram.messages(7).map((sent) => sent.text ?? "");
  assert.match(said[0] ?? "", /now connected/);
  assert.match(said[1] ?? "", /already connected/);
  assert.match(ctx.telegram.messages(9)[0]?.text ?? "", /used or is too old/);
});

test("button taps pass the same gates as messages (F20, F70)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  const { acceptor } = await ctx.route();
  const tenantId = await ctx.addTenant(7, runtime.url);
  await acceptor.accept(buttonTap(1, 7));
  await ctx.untilOutcome(1, "delivered");
  await ctx.pool.query("UPDATE tenants SET status = 'suspended', suspended_by = 'operator' WHERE id = $1", [tenantId]);
  await acceptor.accept(buttonTap(2, 7));
  await ctx.untilOutcome(2, "answered");
  assert.deepEqual(runtime.ids(), [1]);
  assert.match(ctx.telegram.messages(7)[0]?.text ?? "", /paused/);
});

test("unlinking holds at once, in every daemon (F21)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  const { acceptor } = await ctx.route();
  await ctx.addTenant(7, runtime.url);
  await acceptor.accept(message(1, 7));
  await ctx.untilOutcome(1, "delivered");
  await ctx.pool.query("UPDATE tenants SET telegram_chat_id = NULL, telegram_user_id = NULL");
  await acceptor.accept(message(2, 7));
  await ctx.untilOutcome(2, "answered");
  assert.deepEqual(runtime.ids(), [1]);
});

test("an answer that Telegram can't take now is given later, one that it never takes ends there", async (t) => {
  const ctx = await setUp(t);
  const { acceptor } = await ctx.route();
  ctx.telegram.failNext("sendMessage", { status: 429, body: { ok: false, parameters: { retry_after: 1 } } });
  await acceptor.accept(message(1, 7));
  await ctx.untilOutcome(1, "answered");
  assert.equal(ctx.telegram.messages(7).length, 1);
  ctx.telegram.failNext("sendMessage", { status: 403, body: { ok: false, description: "Forbidden: bot was blocked" } });
  await acceptor.accept(message(2, 8));
  await ctx.untilOutcome(2, "answered");
  await until(() => ctx.telegram.calls.length === 3, "it was tried three times in all");
});
