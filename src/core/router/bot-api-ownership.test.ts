import assert from "node:assert/strict";
import test from "node:test";
import type { Json } from "./bot-api-json.ts";
import { claimsOf, idsGranted, isOwnChat } from "./bot-api-ownership.ts";

const TENANT = { chatId: 111, userId: 111 };

function claimed(params: Record<string, Json>): string[] {
  return claimsOf(Object.entries(params)).map(({ field, kind, value }) => `${field} ${kind} ${JSON.stringify(value)}`);
}

function isOwn(kind: "chat" | "user", value: Json): boolean {
  return isOwnChat(kind, value, TENANT);
}

test("identifying fields are found at any depth (F93)", () => {
  assert.deepEqual(
    claimed({
      chat_id: 111,
      text: "hi",
      message_id: 5,
      reply_parameters: { message_id: 1, chat_id: 222 },
      entities: [{ type: "text_mention", offset: 0, length: 1, user: { id: 333, is_bot: false } }],
      media: [
        { type: "photo", media: "AgAC", thumbnail: "attach://t" },
        { type: "video", media: "https://x/y.mp4" },
      ],
    }),
    ["chat_id chat 111", "chat_id chat 222", "user.id user 333", 'media file "AgAC"'],
  );
});

test("what hangs in lists and lists of lists is found as well", () => {
  assert.deepEqual(
    claimed({
      photo: ["AgAC", "https://x/y.jpg"],
      blocks: [[{ type: "photo", photo: { media: "BQAC", thumbnail: "CQAC" } }]],
      reply_markup: { inline_keyboard: [[{ text: "x", login_url: { url: "https://x" }, user_ids: [333] }]] },
    }),
    ['photo file "AgAC"', 'media file "BQAC"', 'thumbnail file "CQAC"', "user_ids user 333"],
  );
});

test("a field that looks like an id, and that nobody has classified, is claimed as unknown", () => {
  assert.deepEqual(claimed({ guest_query_id: "q" }), ['guest_query_id unknown "q"']);
});

test("a file URI, which a local Bot API server would read from its own disk, is no URL but a file id to own", () => {
  assert.deepEqual(claimed({ document: "file:///etc/passwd" }), ['document file "file:///etc/passwd"']);
});

test("only the tenant's own chat is its own, as a number or a string of one (F93)", () => {
  assert.ok(isOwn("chat", 111));
  assert.ok(isOwn("chat", "111"));
  for (const value of [222, "222", "@channel", "0111", " 111", "111.0", "1.11e2", "-111", "", null, true, {}, [111]]) {
    assert.ok(!isOwn("chat", value), JSON.stringify(value));
  }
  assert.ok(isOwn("user", "111"));
  assert.ok(!isOwn("user", 222));
});

test("a reply grants the file ids and paths in it", () => {
  const reply = { ok: true, result: { photo: [{ file_id: "F1", file_unique_id: "U" }], file_path: "photos/1.jpg" } };
  assert.deepEqual(idsGranted(JSON.stringify(reply)), [
    { kind: "file", id: "F1" },
    { kind: "file-path", id: "photos/1.jpg" },
  ]);
  assert.deepEqual(idsGranted("<html>"), []);
});
