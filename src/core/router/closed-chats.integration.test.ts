import assert from "node:assert/strict";
import test from "node:test";
import { createAcceptor } from "./router.ts";
import { closeChat, findChatClosedAt } from "./closed-chats.ts";
import { claimNotice } from "./notices.ts";
import { BOT_ID, message, setUp } from "./test-setup.ts";

const HOUR_MS = 3_600_000;

test("nothing is said in a chat whose person blocked the bot", async (t) => {
  const { clock, ...rest } = await setUp(t);
  const ctx = { ...rest, clock };
  const since = clock.now();
  await closeChat(ctx, 7);
  clock.advance(HOUR_MS);
  await closeChat(ctx, 7);
  assert.deepEqual(await findChatClosedAt(ctx.db, 7), since);
  assert.equal(await claimNotice(ctx, 7, "waking", HOUR_MS), false);
  assert.equal(await claimNotice(ctx, 8, "waking", HOUR_MS), true);
});

test("an update that came after the chat was closed may be answered at once, one from before may not", async (t) => {
  const { clock, ...rest } = await setUp(t);
  const ctx = { ...rest, clock };
  const acceptor = createAcceptor({ ...ctx, botId: BOT_ID }, undefined);
  await acceptor.accept(message(1, 7));
  clock.advance(1_000);
  await closeChat(ctx, 7);
  assert.equal(await claimNotice(ctx, 7, "waking", HOUR_MS), false);
  clock.advance(1_000);
  await acceptor.accept(message(2, 7));
  assert.equal(await claimNotice(ctx, 7, "waking", HOUR_MS), true);
});

test("a chat that refuses what the service has to say is closed, and open again once it is heard from", async (t) => {
  const ctx = await setUp(t);
  const { acceptor } = await ctx.route();
  const blocked = "Forbidden: bot was blocked by the user";
  ctx.telegram.failNext("sendMessage", {
    status: 403,
    body: { ok: false, error_code: 403, description: blocked },
  });
  await acceptor.accept(message(1, 7));
  await ctx.untilOutcome(1, "answered");
  assert.deepEqual(await findChatClosedAt(ctx.db, 7), ctx.clock.now());
  ctx.clock.advance(HOUR_MS);
  await acceptor.accept(message(2, 7));
  await ctx.untilOutcome(2, "answered");
  assert.equal(await findChatClosedAt(ctx.db, 7), undefined);
  assert.equal(ctx.telegram.messages(7).length, 1);
});

test("a chat is closed by Telegram's news that the bot was blocked, and opened by that of the opposite", async (t) => {
  const ctx = await setUp(t);
  const { acceptor } = await ctx.route();
  const membership = (updateId: number, status: string) => {
    const person = { id: 7, is_bot: false, first_name: "P" };
    const fields = { chat: { id: 7, type: "private" }, from: person, new_chat_member: { user: { id: 4242 }, status } };
    return Buffer.from(JSON.stringify({ update_id: updateId, my_chat_member: fields }));
  };
  await closeChat(ctx, 7);
  ctx.clock.advance(HOUR_MS);
  await acceptor.accept(membership(1, "kicked"));
  await ctx.untilOutcome(1, "ignored");
  assert.deepEqual(await findChatClosedAt(ctx.db, 7), ctx.clock.now());
  ctx.clock.advance(HOUR_MS);
  await acceptor.accept(membership(2, "member"));
  await ctx.untilOutcome(2, "ignored");
  assert.equal(await findChatClosedAt(ctx.db, 7), undefined);
});
