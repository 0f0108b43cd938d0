import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { connect } from "node:net";
import test, { type TestContext } from "node:test";
import Fastify from "fastify";
import { request } from "undici";
import { systemClock } from "../platform/clock.ts";
import { parseTenantId, type TenantId } from "../platform/ids.ts";
import { startTelegramServer } from "../testing/fakes/telegram-server.ts";
import { registerBotApiGateway } from "./bot-api-gateway.ts";
import type { Json } from "./bot-api-json.ts";
import { createRuntimeAuth } from "./runtime-auth.ts";

const REAL_TOKEN = "4242:real-bot-token";
const ALICE = tenantId("11111111-1111-4111-8111-111111111111");
const BOB = tenantId("22222222-2222-4222-8222-222222222222");
const TOKENS = new Map([
  [ALICE, "1001:alice-token"],
  [BOB, "1002:bob-token"],
]);
const CHATS = new Map([
  [ALICE, { chatId: 111, userId: 111 }],
  [BOB, { chatId: 222, userId: 222 }],
]);

function tenantId(text: string): TenantId {
  const id = parseTenantId(text);
  if (id === undefined) throw new Error(text);
  return id;
}

type TelegramReply = {
  ok?: boolean;
  error_code?: number;
  result?: { id?: number; chat?: { id: number }; file_path?: string };
};

async function start(t: TestContext, options: { apiRoot?: string } = {}) {
  const telegram = await startTelegramServer({ token: REAL_TOKEN });
  const lines: string[] = [];
  const app = Fastify({ logger: { level: "trace", stream: { write: (line: string) => void lines.push(line) } } });
  const owned = new Set<string>();
  await registerBotApiGateway(app, {
    auth: createRuntimeAuth({
      credentials: {
        find: async (id) => {
          const token = TOKENS.get(id);
          return token === undefined ? undefined : createHash("sha256").update(token).digest();
        },
      },
      clock: systemClock,
    }),
    clock: systemClock,
    telegram: { apiRoot: options.apiRoot ?? telegram.url, token: REAL_TOKEN },
    tenantChat: async (id) => CHATS.get(id),
    ownsId: async (id, kind, value) => owned.has(`${id} ${kind} ${value}`),
    rememberIds: async (id, ids) => {
      for (const { kind, id: value } of ids) owned.add(`${id} ${kind} ${value}`);
    },
  });
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  t.after(async () => {
    await app.close();
    await telegram.close();
  });

  async function send(
    path: string,
    init: Parameters<typeof request>[1] = {},
  ): Promise<{ status: number; body: TelegramReply; bytes: Buffer }> {
    const { statusCode, body } = await request(url + path, init);
    const bytes = Buffer.from(await body.arrayBuffer());
    return { status: statusCode, bytes, body: bytes.toString().startsWith("{") ? JSON.parse(bytes.toString()) : {} };
  }
  const bot = (id: TenantId): string => `/runtime/${id}/telegram/bot${TOKENS.get(id)}`;
  const call = (id: TenantId, method: string, params: Json = {}) =>
    send(`${bot(id)}/${method}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(params),
    });
  return { telegram, url, send, bot, call, owned, lines };
}

const UNAUTHORIZED = { ok: false, error_code: 401, description: "Unauthorized" };

test("a message to the tenant's own chat is sent with the real token", async (t) => {
  const { telegram, call } = await start(t);
  for (const chatId of [111, "111"]) {
    const { status, body } = await call(ALICE, "sendMessage", { chat_id: chatId, text: '{"chat_id": 222}' });
    assert.equal(status, 200);
    assert.equal(body.result?.chat?.id, 111);
  }
  assert.equal(telegram.messages(111).length, 2);
});

test("start-up calls are absorbed and never reach Telegram (F4)", async (t) => {
  const { telegram, call } = await start(t);
  for (const method of ["setWebhook", "deleteMyCommands", "setMyCommands", "logOut", "SetWebhook"]) {
    const { status, body } = await call(ALICE, method, { url: "https://evil.example/" });
    assert.equal(status, 200, method);
    assert.deepEqual(body, { ok: true, result: true });
  }
  assert.deepEqual((await call(ALICE, "getMyCommands")).body, { ok: true, result: [] });
  assert.deepEqual(telegram.calls, []);
});

test("start-up calls are absorbed while Telegram can't be reached, and getMe says so in Telegram's shape (F4)", async (t) => {
  const { call } = await start(t, { apiRoot: "http://127.0.0.1:1" });
  assert.equal((await call(ALICE, "setWebhook")).status, 200);
  const { status, body } = await call(ALICE, "getMe");
  assert.equal(status, 502);
  assert.equal(body.ok, false);
  assert.equal(body.error_code, 502);
});

test("getUpdates is a conflict, as it is for a second poller (F5)", async (t) => {
  const { telegram, call } = await start(t);
  const { status, body } = await call(ALICE, "getUpdates");
  assert.equal(status, 409);
  assert.equal(body.error_code, 409);
  assert.deepEqual(telegram.calls, []);
});

test("getMe is asked for once, by GET or POST and for however many tenants", async (t) => {
  const { telegram, call, send, bot } = await start(t);
  const replies = await Promise.all([call(ALICE, "getMe"), call(BOB, "getMe"), send(`${bot(ALICE)}/getMe`)]);
  for (const { body } of replies) assert.equal(body.result?.id, 4242);
  assert.equal(telegram.calls.length, 1);
});

test("a failed getMe is not kept", async (t) => {
  const { telegram, call } = await start(t);
  telegram.failNext("getMe", {
    status: 500,
    body: { ok: false, error_code: 500, description: "Internal Server Error" },
  });
  assert.equal((await call(ALICE, "getMe")).status, 502);
  assert.equal((await call(ALICE, "getMe")).status, 200);
});

test("a wrong token, another tenant's token and an unknown tenant get the same 401 on every route (F93, F96)", async (t) => {
  const { telegram, send } = await start(t);
  const unknown = "33333333-3333-4333-8333-333333333333";
  for (const path of [
    `/runtime/${ALICE}/telegram/bot${TOKENS.get(BOB)}/sendMessage?chat_id=111&text=x`,
    `/runtime/${ALICE}/telegram/bot${TOKENS.get(BOB)}/getMe`,
    `/runtime/${ALICE}/telegram/bot${TOKENS.get(BOB)}/setWebhook`,
    `/runtime/${ALICE}/telegram/bot${REAL_TOKEN}/getMe`,
    `/runtime/${ALICE}/telegram/file/bot${TOKENS.get(BOB)}/photos/1.jpg`,
    `/runtime/${unknown}/telegram/bot${TOKENS.get(ALICE)}/getMe`,
    `/runtime/nobody/telegram/bot${TOKENS.get(ALICE)}/getMe`,
    `/runtime/${ALICE}/telegram/nonsense`,
  ]) {
    for (const method of ["GET", "POST"]) {
      const { status, body } = await send(path, { method });
      assert.equal(status, 401, path);
      assert.deepEqual(body, UNAUTHORIZED);
    }
  }
  assert.deepEqual(telegram.calls, []);
});

test("a percent-encoded colon in the token is understood", async (t) => {
  const { send, bot } = await start(t);
  assert.equal((await send(`${bot(ALICE).replace("1001:", "1001%3A")}/getMe`)).status, 200);
});

test("401 comes before the body is read", async (t) => {
  const { url } = await start(t);
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  t.after(() => socket.destroy());
  socket.write(
    `POST /runtime/${ALICE}/telegram/bot1:wrong/sendMessage HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n`,
  );
  let received = "";
  for await (const chunk of socket) received += String(chunk);
  assert.match(received, /^HTTP\/1\.1 401 /);
});

test("what names another chat is refused, wherever it stands and however it is sent (F93)", async (t) => {
  const { telegram, call, send, bot } = await start(t);
  const json = (body: string) => ({ method: "POST" as const, headers: { "content-type": "application/json" }, body });
  const form = (body: string) => ({
    method: "POST" as const,
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body,
  });
  const refused: [string, Promise<{ status: number; body: TelegramReply }>, number][] = [
    ["other chat", call(ALICE, "sendMessage", { chat_id: 222, text: "x" }), 403],
    ["name", call(ALICE, "sendMessage", { chat_id: "@channel", text: "x" }), 403],
    [
      "reply",
      call(ALICE, "sendMessage", { chat_id: 111, text: "x", reply_parameters: { message_id: 1, chat_id: 222 } }),
      403,
    ],
    [
      "reply as text",
      call(ALICE, "sendMessage", { chat_id: 111, text: "x", reply_parameters: '{"message_id":1,"chat_id":222}' }),
      403,
    ],
    ["from", call(ALICE, "copyMessage", { chat_id: 111, from_chat_id: 222, message_id: 1 }), 403],
    ["to", call(ALICE, "forwardMessage", { chat_id: 222, from_chat_id: 111, message_id: 1 }), 403],
    ["chat info", call(ALICE, "getChat", { chat_id: "222" }), 403],
    ["user", call(ALICE, "getUserProfilePhotos", { user_id: 222 }), 403],
    ["callback", call(ALICE, "answerCallbackQuery", { callback_query_id: "other" }), 403],
    ["file", call(ALICE, "getFile", { file_id: "other" }), 403],
    ["photo", call(ALICE, "sendPhoto", { chat_id: 111, photo: "other-file" }), 403],
    ["inline", call(ALICE, "editMessageText", { inline_message_id: "other", text: "x" }), 403],
    ["business", call(ALICE, "sendMessage", { chat_id: 111, text: "x", business_connection_id: "other" }), 403],
    ["nobody", call(ALICE, "sendMessage", { text: "x" }), 400],
    ["unlisted", call(ALICE, "sendEverything", { chat_id: 111 }), 403],
    ["refused", call(ALICE, "leaveChat", { chat_id: 111 }), 403],
    ["repeated key", send(`${bot(ALICE)}/sendMessage`, json('{"chat_id":111,"text":"x","chat_id":222}')), 400],
    ["query and body", send(`${bot(ALICE)}/sendMessage?chat_id=222`, json('{"chat_id":111,"text":"x"}')), 400],
    ["query", send(`${bot(ALICE)}/sendMessage?chat_id=222&text=x`), 403],
    ["form", send(`${bot(ALICE)}/sendMessage`, form("chat_id=222&text=x")), 403],
    [
      "form reply",
      send(
        `${bot(ALICE)}/sendMessage`,
        form(`chat_id=111&text=x&reply_parameters=${encodeURIComponent('{"chat_id":222}')}`),
      ),
      403,
    ],
    ["form twice", send(`${bot(ALICE)}/sendMessage`, form("chat_id=111&text=x&chat_id=222")), 400],
    [
      "other type",
      send(`${bot(ALICE)}/sendMessage?chat_id=111`, {
        method: "POST",
        headers: { "content-type": "text/plain" },
        body: "x",
      }),
      400,
    ],
    ["too large", call(ALICE, "sendMessage", { chat_id: 111, text: "x".repeat(1024 * 1024) }), 413],
  ];
  for (const [what, pending, expected] of refused) {
    const { status, body } = await pending;
    assert.equal(status, expected, what);
    assert.equal(body.ok, false, what);
    assert.equal(body.error_code, expected, what);
  }
  assert.deepEqual(telegram.calls, []);
});

test("an upload goes through with its file, and one for another chat reaches nobody (F93)", async (t) => {
  const { telegram, send, bot } = await start(t);
  const upload = (chatId: string) => {
    // As the library of the real runtime writes it: no space after a colon, no quotes around the file's name.
    const body = [
      `--cut\r\ncontent-disposition:form-data;name="chat_id"\r\n\r\n${chatId}`,
      `--cut\r\ncontent-disposition:form-data;name="photo"\r\n\r\nattach://part1`,
      `--cut\r\ncontent-disposition:form-data;name="part1";filename=lobster.jpg\r\ncontent-type:application/octet-stream\r\n\r\npicture`,
      "--cut--\r\n",
    ].join("\r\n");
    return send(`${bot(ALICE)}/sendPhoto`, {
      method: "POST",
      headers: { "content-type": "multipart/form-data; boundary=cut" },
      body,
    });
  };
  assert.equal((await upload("222")).status, 403);
  assert.equal(telegram.calls.length, 0);

  assert.equal((await upload("111")).status, 200);
  assert.deepEqual(telegram.calls[0]?.files["part1"], { name: "lobster.jpg", bytes: Buffer.from("picture") });
});

test("a file part can't stand for an id (F93)", async (t) => {
  const { telegram, send, bot } = await start(t);
  const { status } = await send(`${bot(ALICE)}/sendMessage?message_id=1`, {
    method: "POST",
    headers: { "content-type": "multipart/form-data; boundary=cut" },
    body: '--cut\r\ncontent-disposition:form-data;name="chat_id";filename="x"\r\n\r\n222\r\n--cut--\r\n',
  });
  assert.equal(status, 400);
  assert.equal(telegram.calls.length, 0);
});

test("a file is fetched by the tenant that getFile gave its path to, and by no other (F93)", async (t) => {
  const { telegram, call, send, owned } = await start(t);
  telegram.addFile("F1", "photos/file 1.jpg", Buffer.from("picture"));
  owned.add(`${ALICE} file F1`);
  const file = (id: TenantId) => send(`/runtime/${id}/telegram/file/bot${TOKENS.get(id)}/photos/file%201.jpg`);

  assert.equal((await file(ALICE)).status, 404);
  assert.equal((await call(BOB, "getFile", { file_id: "F1" })).status, 403);
  assert.equal((await call(ALICE, "getFile", { file_id: "F1" })).body.result?.file_path, "photos/file 1.jpg");
  assert.equal((await file(ALICE)).bytes.toString(), "picture");
  assert.equal((await file(BOB)).status, 404);
});

test("Telegram's own refusals come back unchanged", async (t) => {
  const { telegram, call } = await start(t);
  const body = {
    ok: false,
    error_code: 429,
    description: "Too Many Requests: retry after 7",
    parameters: { retry_after: 7 },
  };
  telegram.failNext("sendMessage", { status: 429, body });
  assert.deepEqual(
    await call(ALICE, "sendMessage", { chat_id: 111, text: "x" }).then((reply) => [reply.status, reply.body]),
    [429, body],
  );
});

test("neither tokens nor texts are ever logged (F90, F91)", async (t) => {
  const { call, send, lines, bot } = await start(t, { apiRoot: "http://127.0.0.1:1" });
  await call(ALICE, "sendMessage", { chat_id: 111, text: "private words" });
  await call(ALICE, "sendMessage", { chat_id: 222, text: "private words" });
  await call(ALICE, "leaveChat", { chat_id: 111 });
  await send(`/runtime/${ALICE}/telegram/bot1:wrong-secret/getMe`);
  await send(`${bot(ALICE)}/sendMessage`, { method: "PUT", body: "private words" });
  const log = lines.join("");
  assert.match(log, /runtime\/:tenantId\/telegram/);
  for (const secret of ["alice-token", "real-bot-token", "wrong-secret", "private words"])
    assert.ok(!log.includes(secret), secret);
});
