import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import test from "node:test";
import { createPacer } from "../adapters/telegram/pacer.ts";
import { createMemorySlots } from "../adapters/telegram/send-slots.ts";
import { fixedClock } from "../platform/clock.ts";
import type { TenantId } from "../platform/ids.ts";
import { sendJson, startLoopback } from "../testing/fakes/loopback.ts";
import { ALICE, BOB, REAL_TOKEN, startGateway, type TelegramReply, TOKENS } from "./bot-api-test-setup.ts";

const UNAUTHORIZED = { ok: false, error_code: 401, description: "Unauthorized" };

test("a message to the tenant's own chat is sent with the real token", async (t) => {
  const { telegram, call } = await startGateway(t);
  for (const chatId of [111, "111"]) {
    const { status, body } = await call(ALICE, "sendMessage", { chat_id: chatId, text: '{"chat_id": 222}' });
    assert.equal(status, 200);
    assert.equal(body.result?.chat?.id, 111);
  }
  assert.equal(telegram.messages(111).length, 2);
});

test("start-up calls are absorbed and never reach Telegram (F4)", async (t) => {
  const { telegram, call } = await startGateway(t);
  for (const method of ["setWebhook", "deleteMyCommands", "setMyCommands", "logOut", "SetWebhook"]) {
    const { status, body } = await call(ALICE, method, { url: "https://evil.example/" });
    assert.equal(status, 200, method);
    assert.deepEqual(body, { ok: true, result: true });
  }
  assert.deepEqual((await call(ALICE, "getMyCommands")).body, { ok: true, result: [] });
  assert.deepEqual(telegram.calls, []);
});

test("start-up calls are absorbed while Telegram can't be reached, and getMe says so in Telegram's shape (F4)", async (t) => {
  const { call } = await startGateway(t, { apiRoot: "http://127.0.0.1:1" });
  assert.equal((await call(ALICE, "setWebhook")).status, 200);
  const { status, body } = await call(ALICE, "getMe");
  assert.equal(status, 502);
  assert.equal(body.ok, false);
  assert.equal(body.error_code, 502);
});

test("getUpdates is a conflict, as it is for a second poller (F5)", async (t) => {
  const { telegram, call } = await startGateway(t);
  const { status, body } = await call(ALICE, "getUpdates");
  assert.equal(status, 409);
  assert.equal(body.error_code, 409);
  assert.deepEqual(telegram.calls, []);
});

test("getMe is asked for once, by GET or POST and for however many tenants", async (t) => {
  const { telegram, call, send, bot } = await startGateway(t);
  const replies = await Promise.all([call(ALICE, "getMe"), call(BOB, "getMe"), send(`${bot(ALICE)}/getMe`)]);
  for (const { body } of replies) assert.equal(body.result?.id, 4242);
  assert.equal(telegram.calls.length, 1);
});

test("a failed getMe is not kept", async (t) => {
  const { telegram, call } = await startGateway(t);
  telegram.failNext("getMe", {
    status: 500,
    body: { ok: false, error_code: 500, description: "Internal Server Error" },
  });
  assert.equal((await call(ALICE, "getMe")).status, 502);
  assert.equal((await call(ALICE, "getMe")).status, 200);
});

test("a wrong token, another tenant's token and an unknown tenant get the same 401 on every route (F93, F96)", async (t) => {
  const { telegram, send } = await startGateway(t);
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
  const { send, bot } = await startGateway(t);
  assert.equal((await send(`${bot(ALICE).replace("1001:", "1001%3A")}/getMe`)).status, 200);
});

test("401 comes before the body is read", async (t) => {
  const { url } = await startGateway(t);
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
  const { telegram, call, send, bot } = await startGateway(t);
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

test("a file is fetched by the tenant that getFile gave its path to, and by no other (F93)", async (t) => {
  const { telegram, call, send, owned } = await startGateway(t);
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
  const { telegram, call } = await startGateway(t);
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
  const { call, send, lines, bot } = await startGateway(t, { apiRoot: "http://127.0.0.1:1" });
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

test("what is no answer of Telegram's becomes a 502 in its shape, without a word of it", async (t) => {
  const { telegram, call } = await startGateway(t);
  const page = "<html>secret-host.internal</html>";
  for (const [status, body] of [
    [200, page],
    [302, page],
    [500, page],
    [503, page],
    // The bot's token is refused: nothing that a tenant's runtime could mend.
    [401, { ok: false, error_code: 401, description: "Unauthorized" }],
  ] as const) {
    telegram.failNext("sendMessage", { status, body });
    const reply = await call(ALICE, "sendMessage", { chat_id: 111, text: "x" });
    assert.deepEqual([reply.status, reply.body.ok, reply.body.error_code], [502, false, 502], String(status));
    assert.ok(!reply.bytes.includes("secret-host"));
  }
});

test("a group's migration is passed on as it is", async (t) => {
  const { telegram, call } = await startGateway(t);
  const body = {
    ok: false,
    error_code: 400,
    description: "Bad Request: group chat was upgraded to a supergroup chat",
    parameters: { migrate_to_chat_id: -1001555296434 },
  };
  telegram.failNext("sendMessage", { status: 400, body });
  const reply = await call(ALICE, "sendMessage", { chat_id: 111, text: "x" });
  assert.deepEqual([reply.status, reply.body], [400, body]);
});

test("a person who blocked the bot is taken note of; another refusal is not", async (t) => {
  const { telegram, call, closed } = await startGateway(t);
  const forbid = (description: string) =>
    telegram.failNext("sendMessage", { status: 403, body: { ok: false, error_code: 403, description } });
  forbid("Forbidden: bots can't send messages to bots");
  assert.equal((await call(ALICE, "sendMessage", { chat_id: 111, text: "x" })).status, 403);
  assert.deepEqual(closed, []);
  forbid("Forbidden: bot was blocked by the user");
  assert.equal((await call(ALICE, "sendMessage", { chat_id: 111, text: "x" })).status, 403);
  assert.deepEqual(closed, [111]);
});

test("after Telegram's retry_after the gateway says so itself, for that chat alone", async (t) => {
  const { telegram, call } = await startGateway(t);
  const body = {
    ok: false,
    error_code: 429,
    description: "Too Many Requests: retry after 30",
    parameters: { retry_after: 30 },
  };
  telegram.failNext("sendMessage", { status: 429, body });
  const send = (id: TenantId, chat: number) => call(id, "sendMessage", { chat_id: chat, text: "x" });
  assert.deepEqual((await send(ALICE, 111)).body, body);
  const again = await send(ALICE, 111);
  assert.deepEqual([again.status, again.body], [429, body]);
  assert.equal(telegram.calls.length, 1);

  // Nothing is lost with a chat action, so it is left out without a complaint.
  assert.deepEqual((await call(ALICE, "sendChatAction", { chat_id: 111, action: "typing" })).body, {
    ok: true,
    result: true,
  });
  assert.equal(telegram.calls.length, 1);
  assert.equal((await send(BOB, 222)).status, 200);
});

test("a button tap is answered by whom it was delivered to, and by no other (F93)", async (t) => {
  const { telegram, call, owned } = await startGateway(t);
  owned.add(`${ALICE} callback-query tap`);
  assert.equal((await call(BOB, "answerCallbackQuery", { callback_query_id: "tap" })).status, 403);
  assert.equal(telegram.calls.length, 0);
  assert.equal((await call(ALICE, "answerCallbackQuery", { callback_query_id: "tap" })).status, 200);
});

test("a new link holds at once, and the old chat is no longer the tenant's (F21)", async (t) => {
  const { call, chats } = await startGateway(t);
  const send = (chat: number) => call(ALICE, "sendMessage", { chat_id: chat, text: "x" });
  assert.equal((await send(111)).status, 200);
  chats.set(ALICE, { chatId: 333, userId: 333 });
  assert.equal((await send(333)).status, 200);
  assert.equal((await send(111)).status, 403);
  chats.delete(BOB);
  assert.equal((await call(BOB, "sendMessage", { chat_id: 222, text: "x" })).status, 403);
});

test("getMe is answered from what is known while Telegram is away (F4)", async (t) => {
  const clock = fixedClock(new Date("2026-11-20T10:00:00Z"));
  const { telegram, call } = await startGateway(t, { clock });
  assert.equal((await call(ALICE, "getMe")).body.result?.id, 4242);
  clock.advance(2 * 3_600_000);
  telegram.failNext("getMe", { status: 502, body: "<html>" });
  assert.equal((await call(ALICE, "getMe")).body.result?.id, 4242);
  assert.equal(telegram.calls.length, 2);
});

test("a text in another charset than UTF-8 is not guessed at", async (t) => {
  const { telegram, send, bot } = await startGateway(t);
  const statusFor = async (type: string, body: string | Buffer = '{"chat_id":111,"text":"x"}') =>
    (await send(`${bot(ALICE)}/sendMessage`, { method: "POST", headers: { "content-type": type }, body })).status;
  assert.equal(await statusFor('Application/JSON; charset="UTF-8"'), 200);
  assert.equal(await statusFor("application/json;charset=utf-16"), 400);
  assert.equal(await statusFor("application/json", Buffer.from('{"chat_id":111,"text":"\xe9"}', "latin1")), 400);
  assert.equal(await statusFor("application/json", '\ufeff{"chat_id":111,"text":"x"}'), 400);
  assert.equal(telegram.calls.length, 1);
});

test("a caller that hangs up while it waits for its turn has nothing sent", async (t) => {
  const divisor = async () => 1;
  const pacer = createPacer({ slots: createMemorySlots(divisor), divisor, sendsPerSecond: 20 });
  const { telegram, call, send, bot } = await startGateway(t, { pacer });
  const isWaiting = Promise.withResolvers<void>();
  const leaving = new AbortController();
  // Not messages, so that only the bot's own line is waited for.
  const calls = [1, 2, 3].map(() => call(ALICE, "getChat", { chat_id: 111 }).then(() => isWaiting.resolve()));
  const left = send(`${bot(ALICE)}/getChat?chat_id=111&left=1`, { signal: leaving.signal });
  await isWaiting.promise;
  leaving.abort();
  await assert.rejects(left);
  await Promise.all([...calls, call(ALICE, "getChat", { chat_id: 111 })]);
  assert.equal(telegram.calls.filter(({ params }) => params["left"] !== undefined).length, 0);
  assert.equal(telegram.calls.length, 4);
});

test("what was sent is learnt from, though its caller hung up", async (t) => {
  const arrived = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  const slow = await startLoopback(async (_request, response) => {
    arrived.resolve();
    await released.promise;
    sendJson(response, 200, { ok: true, result: { photo: [{ file_id: "F9" }] } });
  });
  t.after(() => slow.close());
  const { send, bot, learnt } = await startGateway(t, { apiRoot: slow.url });
  const leaving = new AbortController();
  const call = send(`${bot(ALICE)}/sendPhoto?chat_id=111&photo=https://example.com/x.jpg`, { signal: leaving.signal });
  await arrived.promise;
  leaving.abort();
  await assert.rejects(call);
  released.resolve();
  assert.deepEqual(await learnt, [{ kind: "file", id: "F9" }]);
});

test("a connection that Telegram closed while it was idle costs no call", async (t) => {
  const { telegram, call } = await startGateway(t);
  for (let count = 0; count < 3; count += 1) {
    assert.equal((await call(ALICE, "sendMessage", { chat_id: 111, text: "x" })).status, 200);
    telegram.closeIdleConnections();
  }
});

test("a file's path is taken as it was given, and leads nowhere else", async (t) => {
  const { telegram, send, owned } = await startGateway(t);
  telegram.addFile("F1", "photos/1.jpg", Buffer.from("picture"));
  for (const path of ["../secret", "photos/../secret", "photos//1.jpg", "/etc/passwd", "gone.jpg"])
    owned.add(`${ALICE} file-path ${path}`);
  const base = `/runtime/${ALICE}/telegram/file/bot${TOKENS.get(ALICE)}`;
  for (const path of [
    "photos/1.jpg",
    "%2e%2e%2fsecret",
    "photos/%2e%2e/secret",
    "photos//1.jpg",
    "%2fetc/passwd",
    "gone.jpg",
  ]) {
    const { status, bytes } = await send(`${base}/${path}`);
    assert.equal(status, 404, path);
    assert.ok(!bytes.includes("token"), path);
  }
});

test("files that nobody reads hold up neither messages nor other tenants' files", async (t) => {
  const { telegram, call, send, url, owned } = await startGateway(t);
  telegram.addFile("F1", "videos/1.mp4", Buffer.alloc(20 * 2 ** 20));
  for (const id of [ALICE, BOB]) owned.add(`${id} file-path videos/1.mp4`);
  const path = (id: TenantId) => `/runtime/${id}/telegram/file/bot${TOKENS.get(id)}/videos/1.mp4`;
  const { port } = new URL(url);
  const unread = await Promise.all(
    Array.from({ length: 70 }, async () => {
      const socket = connect(Number(port), "127.0.0.1");
      t.after(() => socket.destroy());
      socket.write(`GET ${path(ALICE)} HTTP/1.1\r\nhost: gateway\r\n\r\n`);
      const [head] = await once(socket, "readable").then(() => String(socket.read(32)).split("\r\n"));
      return head;
    }),
  );
  assert.equal(unread.filter((head) => head === "HTTP/1.1 200 OK").length, 4);
  assert.equal(unread.filter((head) => head === "HTTP/1.1 429 Too Many Requests").length, 66);
  assert.equal((await call(BOB, "sendMessage", { chat_id: 222, text: "x" })).status, 200);
  const { status, bytes } = await send(path(BOB));
  assert.deepEqual([status, bytes.length], [200, 20 * 2 ** 20]);
});
