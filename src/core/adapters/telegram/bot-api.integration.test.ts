import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { inspect } from "node:util";
import { startTelegramServer } from "../../testing/fakes/telegram-server.ts";
import { BotApiError, createBotApi } from "./bot-api.ts";
import { createPacer } from "./pacer.ts";
import { createMemorySlots } from "./send-slots.ts";

const TOKEN = "4242:very-secret";

async function start(t: TestContext, token: string = TOKEN) {
  const telegram = await startTelegramServer({ token: TOKEN });
  const divisor = async () => 1;
  const pacer = createPacer({ slots: createMemorySlots(divisor), divisor, sendsPerSecond: 1_000, chatIntervalMs: 1 });
  const botApi = createBotApi({ apiRoot: `${telegram.url}/`, token, pacer });
  t.after(async () => {
    await botApi.close();
    await telegram.close();
  });
  return { telegram, botApi, pacer };
}

async function failureOf(call: Promise<unknown>): Promise<BotApiError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof BotApiError);
  return error;
}

test("a call returns the method's result", async (t) => {
  const { botApi, telegram } = await start(t);
  const me = await botApi.call("getMe");
  assert.deepEqual(me, {
    ...telegram.bot,
    is_bot: true,
    first_name: telegram.bot.username,
    can_join_groups: false,
    can_read_all_group_messages: false,
    supports_inline_queries: false,
  });
});

test("a long text arrives whole, in order, as plain text (F22)", async (t) => {
  const { botApi, telegram } = await start(t);
  const paragraphs = Array.from({ length: 30 }, (_, index) => `${index} <b>&_*`.padEnd(400, "x"));
  await botApi.sendMessage(111, paragraphs.join("\n\n"));
  assert.deepEqual(
    telegram.messages(111).flatMap((message) => message.text?.split("\n\n")),
    paragraphs,
  );
  for (const call of telegram.calls) assert.equal(call.params["parse_mode"], undefined);
});

test("a refusal carries what Telegram said and how long to wait", async (t) => {
  const { botApi, telegram } = await start(t);
  telegram.failNext("sendMessage", {
    status: 429,
    body: {
      ok: false,
      error_code: 429,
      description: "Too Many Requests: retry after 9",
      parameters: { retry_after: 9 },
    },
  });
  const limited = await failureOf(botApi.sendMessage(111, "hello"));
  assert.equal(limited.errorCode, 429);
  assert.equal(limited.retryAfterSeconds, 9);
  assert.equal(limited.retryable, true);

  telegram.failNext("sendMessage", {
    status: 400,
    body: { ok: false, error_code: 400, description: "group upgraded", parameters: { migrate_to_chat_id: -1001 } },
  });
  assert.equal((await failureOf(botApi.sendMessage(222, "hello"))).retryable, false);
});

test("after a retry_after, nothing is sent to that chat until it is over", async (t) => {
  const { botApi, telegram } = await start(t);
  const body = {
    ok: false,
    error_code: 429,
    description: "Too Many Requests: retry after 30",
    parameters: { retry_after: 30 },
  };
  telegram.failNext("sendMessage", { status: 429, body });
  assert.equal((await failureOf(botApi.sendMessage(111, "hello"))).retryAfterSeconds, 30);
  const again = await failureOf(botApi.sendMessage(111, "hello"));
  assert.equal(again.code, "telegram-paced");
  assert.equal(again.retryAfterSeconds, 30);
  assert.equal(again.retryable, true);
  assert.equal(telegram.calls.length, 1);

  await botApi.sendMessage(222, "hello");
  assert.equal(telegram.messages(222).length, 1);
});

test("a person who blocked the bot is told from a call that is not allowed", async (t) => {
  const { botApi, telegram } = await start(t);
  const forbid = (description: string) =>
    telegram.failNext("sendMessage", { status: 403, body: { ok: false, error_code: 403, description } });
  forbid("Forbidden: bot was blocked by the user");
  forbid("Forbidden: user is deactivated");
  forbid("Forbidden: bots can't send messages to bots");
  const closed = [];
  for (let count = 0; count < 3; count += 1) closed.push((await failureOf(botApi.sendMessage(111, "x"))).isChatClosed);
  assert.deepEqual(closed, [true, true, false]);
});

test("an answer that is not Telegram's is a failure worth a retry", async (t) => {
  const { botApi, telegram } = await start(t);
  telegram.failNext("getMe", { status: 200, body: "<html>" });
  assert.equal((await failureOf(botApi.call("getMe"))).retryable, true);
});

test("no error holds the token (F90)", async (t) => {
  const { botApi: refused } = await start(t, "4242:other-secret");
  const unreachable = createBotApi({ apiRoot: "http://127.0.0.1:1", token: TOKEN });
  t.after(() => unreachable.close());
  const failures = [await failureOf(refused.call("getMe")), await failureOf(unreachable.call("getMe"))];
  assert.deepEqual(
    failures.map(({ errorCode }) => errorCode),
    [401, undefined],
  );
  for (const failure of failures) assert.doesNotMatch(inspect(failure, { depth: 10, showHidden: true }), /secret/);
});
