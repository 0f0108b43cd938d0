import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { UsageError } from "../platform/errors.ts";
import { laneOf, parseUpdate, readFacts, SHARD_COUNT, shardOf } from "./update.ts";

const facts = (update: unknown) => readFacts(parseUpdate(Buffer.from(JSON.stringify(update))));
const person = { id: 42, is_bot: false, first_name: "A", username: "abcde" };

test("bodies that are no update are refused", () => {
  for (const body of [
    "",
    "{",
    "null",
    "[]",
    '"x"',
    "{}",
    '{"update_id":"1"}',
    '{"update_id":1.5}',
    '{"update_id":9007199254740992}',
  ]) {
    assert.throws(() => parseUpdate(Buffer.from(body)), UsageError, body);
  }
});

test("chat and user are found where each kind keeps them", () => {
  const cases: [Record<string, unknown>, number | undefined, number | undefined][] = [
    [{ message: { from: person, chat: { id: 7, type: "private" } } }, 7, 42],
    [{ edited_message: { from: person, chat: { id: 7, type: "private" } } }, 7, 42],
    [{ channel_post: { chat: { id: -1001367429635, type: "channel" } } }, -1001367429635, undefined],
    [{ callback_query: { id: "q", from: person, message: { date: 0, chat: { id: 7, type: "private" } } } }, 7, 42],
    [{ callback_query: { id: "q", from: person, inline_message_id: "i" } }, undefined, 42],
    [{ callback_query: { id: "q", from: person, message: null } }, undefined, 42],
    [{ inline_query: { id: "q", from: person } }, undefined, 42],
    [{ message_reaction: { user: person, chat: { id: 7, type: "private" } } }, 7, 42],
    [{ business_connection: { id: "b", user: person, user_chat_id: 42 } }, 42, 42],
    [{ poll_answer: { user: person } }, undefined, 42],
    [{ chosen_inline_result: { result_id: "r", from: person } }, undefined, 42],
    [{ shipping_query: { id: "q", from: person } }, undefined, 42],
    [{ pre_checkout_query: { id: "q", from: person } }, undefined, 42],
    [{ purchased_paid_media: { from: person } }, undefined, 42],
    [{ managed_bot: { user: person } }, undefined, 42],
    [{ my_chat_member: { from: person, chat: { id: 7, type: "private" } } }, 7, 42],
    [{ chat_member: { from: person, chat: { id: -5, type: "group" } } }, -5, 42],
    [{ chat_join_request: { from: person, user_chat_id: 42, chat: { id: -5, type: "supergroup" } } }, -5, 42],
    [{ message_reaction_count: { chat: { id: -5, type: "channel" } } }, -5, undefined],
    [{ chat_boost: { chat: { id: -5, type: "channel" } } }, -5, undefined],
    [{ removed_chat_boost: { chat: { id: -5, type: "channel" } } }, -5, undefined],
    [{ edited_channel_post: { chat: { id: -5, type: "channel" } } }, -5, undefined],
    [{ business_message: { from: person, chat: { id: 7, type: "private" } } }, 7, 42],
    [{ deleted_business_messages: { business_connection_id: "b", chat: { id: 7, type: "private" } } }, 7, undefined],
    [{ poll: { id: "p" } }, undefined, undefined],
    [{ tomorrows_kind: { chat: { id: "absurd" } } }, undefined, undefined],
    [{}, undefined, undefined],
  ];
  for (const [update, chatId, userId] of cases) {
    const found = facts({ update_id: 1, ...update });
    assert.deepEqual([found.chatId, found.userId], [chatId, userId], JSON.stringify(update));
  }
});

test("a button tap is in the lane of its chat, an update without one in that of its user, one of nobody in lane 0 (F7)", () => {
  assert.equal(laneOf(facts({ update_id: 1, callback_query: { from: person, message: { chat: { id: 7 } } } })), 7);
  assert.equal(laneOf(facts({ update_id: 1, inline_query: { from: person } })), 42);
  assert.equal(laneOf(facts({ update_id: 1, poll: {} })), 0);
});

test("only /start with a payload in a message is a link", () => {
  const start = (text: string) => facts({ update_id: 1, message: { text, chat: { id: 7 } } }).startPayload;
  assert.equal(start("/start abc_DEF-1"), "abc_DEF-1");
  assert.equal(start("/start@bot abc"), "abc");
  assert.equal(start("/start"), undefined);
  assert.equal(start("/start a b"), undefined);
  assert.equal(start(`/start ${"x".repeat(65)}`), undefined);
  assert.equal(
    facts({ update_id: 1, edited_message: { text: "/start abc", chat: { id: 7 } } }).startPayload,
    undefined,
  );
});

test("whatever JSON arrives, facts are read without failing and the shard is in range", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.maxSafeInteger(), (fields, id) => {
      const update = { ...fields, message: { chat: { id }, from: fields } };
      const shard = shardOf(laneOf(readFacts({ updateId: 1, fields: update })));
      assert.ok(shard >= 0 && shard < SHARD_COUNT);
    }),
  );
});

test("neighbouring chats spread over all shards", () => {
  const used = new Set(Array.from({ length: 1_000 }, (_, index) => shardOf(1_000_000 + index)));
  assert.equal(used.size, SHARD_COUNT);
});

test("an absurd date is no time at all", () => {
  const sentAt = (date: unknown) => facts({ update_id: 1, message: { date, chat: { id: 7 } } }).sentAt;
  for (const date of [1e300, -1, 0, "now", null]) assert.equal(sentAt(date), undefined, String(date));
  assert.deepEqual(sentAt(1_700_000_000), new Date(1_700_000_000_000));
});
