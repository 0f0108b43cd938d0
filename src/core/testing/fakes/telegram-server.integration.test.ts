import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { request } from "undici";
import { startLoopback } from "./loopback.ts";
import { startTelegramServer } from "./telegram-server.ts";

async function start(t: TestContext) {
  const telegram = await startTelegramServer({ token: "4242:secret" });
  t.after(() => telegram.close());
  const call = async (path: string, params?: unknown): Promise<[number, unknown]> => {
    const { statusCode, body } = await request(telegram.url + path, {
      method: params === undefined ? "GET" : "POST",
      headers: { "content-type": "application/json" },
      body: params === undefined ? null : JSON.stringify(params),
    });
    return [statusCode, await body.json()];
  };
  return { telegram, call };
}

test("a wrong token is 401 and an unknown method 404, in Telegram's shape", async (t) => {
  const { call } = await start(t);
  assert.deepEqual(await call("/bot1:x/getMe"), [401, { ok: false, error_code: 401, description: "Unauthorized" }]);
  assert.deepEqual(await call("/bot4242:secret/fooBar"), [
    404,
    { ok: false, error_code: 404, description: "Not Found" },
  ]);
});

test("messages are numbered and kept by chat, and empty or overlong texts are refused", async (t) => {
  const { telegram, call } = await start(t);
  for (const text of ["one", "two"]) await call("/bot4242:secret/sendMessage", { chat_id: "7", text });
  assert.deepEqual(
    telegram.messages(7).map(({ message_id, text }) => [message_id, text]),
    [
      [1, "one"],
      [2, "two"],
    ],
  );
  assert.equal((await call("/bot4242:secret/sendMessage", { chat_id: 7, text: "" }))[0], 400);
  assert.equal((await call("/bot4242:secret/sendMessage", { chat_id: 7, text: "x".repeat(4097) }))[0], 400);
});

test("an update is delivered to the webhook last set, with its secret", async (t) => {
  const { telegram, call } = await start(t);
  const secrets: unknown[] = [];
  const receiver = await startLoopback(async (incoming, response) => {
    secrets.push(incoming.headers["x-telegram-bot-api-secret-token"]);
    response.end();
  });
  t.after(() => receiver.close());
  await call("/bot4242:secret/setWebhook", { url: `${receiver.url}/hook`, secret_token: "s3" });
  assert.equal(await telegram.deliver({ update_id: 1 }), 200);
  assert.deepEqual(secrets, ["s3"]);
  assert.equal((await call("/bot4242:secret/getUpdates"))[0], 409);
});
