import assert from "node:assert/strict";
import test from "node:test";
import type { Json } from "./bot-api-json.ts";
import { type BotApiMethod, listBotApiMethods } from "./bot-api-methods.ts";
import type { TenantId } from "../platform/ids.ts";
import { ALICE, BOB, startGateway, TOKENS } from "./bot-api-test-setup.ts";

/** What is Bob's, and a call of Alice's may name nowhere, each as far as Telegram has a field for it. */
const BOBS: Record<string, Json> = {
  chat_id: 222,
  "chat_id as text": "222",
  "chat_id by name": "@bobs_channel",
  from_chat_id: 222,
  sender_chat_id: 222,
  user_id: 222,
  user_ids: [111, 222],
  business_connection_id: "bobs-connection",
  inline_message_id: "bobs-inline-message",
  callback_query_id: "bobs-tap",
  inline_query_id: "bobs-inline-query",
  web_app_query_id: "bobs-web-app-query",
  shipping_query_id: "bobs-shipping-query",
  pre_checkout_query_id: "bobs-pre-checkout-query",
  file_id: "bobs-file",
  photo: "bobs-file",
  document: "bobs-file",
  voice: "bobs-file",
  sticker: "bobs-file",
  thumbnail: "bobs-file",
  reply_parameters: { message_id: 1, chat_id: 222 },
  "reply_parameters as text": '{"message_id":1,"chat_id":222}',
  media: [{ type: "photo", media: "bobs-file" }],
  "media as text": '[{"type":"video","media":"attach://a","thumbnail":"bobs-file"}]',
  rich_message: { blocks: [{ type: "photo", photo: { type: "photo", media: "bobs-file" } }] },
  entities: [{ type: "text_mention", offset: 0, length: 1, user: { id: 222 } }],
  results: [{ type: "photo", id: "1", photo_file_id: "bobs-file" }],
};

/** Alice's own value of everything that a method must name. */
const ALICES: Record<string, Json> = {
  chat_id: 111,
  from_chat_id: "111",
  user_id: 111,
  inline_message_id: "alices-inline-message",
  callback_query_id: "alices-tap",
  inline_query_id: "alices-inline-query",
  file_id: "alices-file",
};

function ownParams(method: BotApiMethod): Record<string, Json> {
  const fields = method.rule === "pass" ? method.names.map((group) => group[0] ?? "") : ["chat_id"];
  return Object.fromEntries(fields.map((field) => [field, ALICES[field] ?? null]));
}

async function startOwned(t: test.TestContext) {
  const gateway = await startGateway(t);
  for (const [tenant, whose] of [
    [ALICE, "alices"],
    [BOB, "bobs"],
  ] as const) {
    for (const [kind, id] of [
      ["file", "file"],
      ["callback-query", "tap"],
      ["inline-query", "inline-query"],
      ["inline-message", "inline-message"],
      ["business-connection", "connection"],
    ])
      gateway.owned.add(`${tenant} ${kind} ${whose}-${id}`);
  }
  gateway.telegram.addFile("alices-file", "photos/a.jpg", Buffer.from("a"));
  return gateway;
}

test("nothing of another tenant's can be named in any call of any method (F93)", async (t) => {
  const { telegram, call } = await startOwned(t);
  // Asked for once beforehand; it says nothing of anybody but the bot.
  await call(ALICE, "getMe");
  for (const method of listBotApiMethods()) {
    for (const [what, value] of Object.entries(BOBS)) {
      const field = what.split(" ", 1)[0] ?? "";
      const { status, body } = await call(ALICE, method.name, { ...ownParams(method), [field]: value });
      const isAnsweredHere = method.rule === "absorb" || method.rule === "fixed" || method.rule === "getMe";
      assert.equal(
        status,
        isAnsweredHere ? 200 : method.rule === "conflict" ? 409 : 403,
        `${method.name} with ${what}`,
      );
      assert.equal(body.ok, isAnsweredHere);
    }
  }
  assert.deepEqual(
    telegram.calls.map((sent) => sent.method),
    ["getMe"],
  );
});

test("another tenant's file can't be fetched by its path (F93)", async (t) => {
  const { send, owned, telegram } = await startOwned(t);
  telegram.addFile("bobs-file", "photos/b.jpg", Buffer.from("b"));
  owned.add(`${BOB} file-path photos/b.jpg`);
  const fileOf = (id: TenantId, token: TenantId) => `/runtime/${id}/telegram/file/bot${TOKENS.get(token)}/photos/b.jpg`;
  assert.equal((await send(fileOf(BOB, BOB))).status, 200);
  assert.equal((await send(fileOf(ALICE, ALICE))).status, 404);
  assert.equal((await send(fileOf(BOB, ALICE))).status, 401);
  assert.equal((await send(fileOf(ALICE, BOB))).status, 401);
});

test("every method does what the table says with what is the tenant's own", async (t) => {
  const { telegram, call } = await startOwned(t);
  await call(ALICE, "getMe");
  for (const method of listBotApiMethods()) {
    const sentBefore = telegram.calls.length;
    const { status } = await call(ALICE, method.name, { ...ownParams(method), text: "x" });
    const sent = telegram.calls.slice(sentBefore).map((sentCall) => sentCall.method);
    assert.deepEqual(sent, method.rule === "pass" ? [method.name] : [], method.name);
    assert.equal(status, method.rule === "conflict" ? 409 : method.rule === "refuse" ? 403 : 200, method.name);
  }
});

test("a call that names nobody is refused, whatever the method", async (t) => {
  const { telegram, call } = await startOwned(t);
  for (const method of listBotApiMethods()) {
    if (method.rule !== "pass") continue;
    for (const missing of method.names) {
      const params = ownParams(method);
      for (const field of missing) delete params[field];
      assert.equal((await call(ALICE, method.name, params)).status, 400, method.name);
    }
  }
  assert.deepEqual(telegram.calls, []);
});
