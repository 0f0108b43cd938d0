import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test, type TestContext } from "node:test";
import { sendJson, startLoopback } from "../../../testing/fakes/loopback.ts";
import type { RuntimeSpec } from "../runtime-driver.ts";
import { someTenantId, until, untilState } from "../contract.ts";
import { runtimeLogPath } from "./local-driver.ts";
import { messageUpdate, onlyProcessOf, post, processesOf, SENDER, setUpLocal } from "./test-setup.ts";

const OTHER = 999;

async function startOne(t: TestContext, model?: Parameters<typeof setUpLocal>[1]) {
  const bench = await setUpLocal(t, model);
  const tenantId = someTenantId();
  await bench.driver.ensure(bench.spec(tenantId, 1));
  const { address } = await untilState(bench.driver, tenantId, "running");
  return { ...bench, tenantId, address };
}

test("a message is answered through the model, and the answer says who speaks", async (t) => {
  const { address, telegram, model } = await startOne(t);
  assert.deepEqual(await post(address, messageUpdate(1, "hello")), { status: 200, accepted: "durable", text: "" });
  const sent = await telegram.waitFor((call) => call.method === "sendMessage");
  assert.equal(sent.params["chat_id"], String(SENDER));
  assert.match(String(sent.params["text"]), /^You said: hello\n\n.*sandbox runtime/s);
  assert.equal(model.calls[0]?.key, "model-key-of-the-tenant");
  assert.equal(model.calls[0]?.body["model"], "claude");
  assert.equal(model.calls[0]?.body["stream"], true);
  const methods = telegram.calls.map((call) => call.method);
  assert.deepEqual(methods.slice(0, 2), ["getMe", "setWebhook"]);
  assert.ok(!methods.includes("getUpdates"), "it never polls (F5)");
});

test("the Anthropic API is spoken where the configuration names it", async (t) => {
  const { driver, spec, model, telegram } = await setUpLocal(t);
  const tenantId = someTenantId();
  const { config } = spec(tenantId, 1);
  const providers = { cp: { baseUrl: model.url, apiKey: "${CP_MODEL_KEY}", api: "anthropic-messages", models: [] } };
  await driver.ensure(spec(tenantId, 1, { config: { ...config, models: { providers } } }));
  const { address } = await untilState(driver, tenantId, "running");
  await post(address, messageUpdate(1, "hello"));
  await telegram.waitFor(
    (call) => call.method === "sendMessage" && /You said: hello/.test(String(call.params["text"])),
  );
  assert.equal(model.calls[0]?.path, "/v1/messages");
  assert.equal(model.calls[0]?.headers["x-api-key"], "model-key-of-the-tenant");
});

test("the webhook listener answers as the real one does", async (t) => {
  const { address } = await startOne(t);
  const update = messageUpdate(1, "hello");
  const statusOf = async (...args: Parameters<typeof post> extends [unknown, ...infer Rest] ? Rest : never) =>
    (await post(address, ...args)).status;
  assert.deepEqual(await post(address, update, { secret: "wrong" }), {
    status: 401,
    accepted: undefined,
    text: "unauthorized",
  });
  assert.equal(await statusOf(update, { secret: "" }), 401);
  assert.equal(await statusOf(update, { path: "/telegram-webhook?x=1" }), 404);
  assert.equal(await statusOf(update, { path: "/elsewhere" }), 404);
  assert.equal(await statusOf("", { method: "GET" }), 404);
  assert.equal(await statusOf("{not json"), 400);
  assert.equal(await statusOf({ message: {} }), 500);
  assert.equal(await statusOf({ update_id: 1, padding: "x".repeat(1_100_000) }), 413);
  assert.deepEqual(await post(address, "", { method: "GET", path: "/healthz" }), {
    status: 200,
    accepted: undefined,
    text: "ok",
  });
});

test("strangers and groups are accepted and dropped without a sign; repetitions are answered once (F8)", async (t) => {
  const { address, telegram, model } = await startOne(t);
  const updates = [
    messageUpdate(1, "stranger", { from: OTHER }),
    messageUpdate(2, "group", { chatType: "group" }),
    messageUpdate(3, "first"),
    messageUpdate(3, "first"),
    messageUpdate(4, "the same message under another id", { messageId: 3 }),
    messageUpdate(2, "an older id, a new message", { messageId: 77 }),
  ];
  for (const update of updates) assert.equal((await post(address, update)).accepted, "durable");
  await telegram.waitFor((call) => /an older id/.test(String(call.params["text"])));
  assert.equal(model.calls.length, 2);
  assert.deepEqual(
    telegram.messages(SENDER).map((message) => message.text?.split("\n")[0]),
    ["You said: first", "You said: an older id, a new message"],
  );
  assert.deepEqual(telegram.messages(OTHER), []);
});

test("what was accepted survives a SIGKILL in the middle of a turn and is answered once, in order (F18)", async (t) => {
  let release: (() => void) | undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  let isFirst = true;
  const beforeEvent = async (): Promise<void> => {
    if (isFirst) await held;
    isFirst = false;
  };
  const { address, telegram, model, root, tenantId } = await startOne(t, { model: { beforeEvent } });
  for (const id of [1, 2, 3]) await post(address, messageUpdate(id, `number ${id}`));
  await model.waitFor(() => true);
  process.kill(await onlyProcessOf(root, tenantId), "SIGKILL");
  isFirst = false;
  release?.();
  await telegram.waitFor((call) => /number 3/.test(String(call.params["text"])), 15_000);
  assert.deepEqual(
    telegram.messages(SENDER).map((message) => message.text?.split("\n")[0]),
    [1, 2, 3].map((id) => `You said: number ${id}`),
  );
});

test("a reply refused for pace or by a fault is sent again", async (t) => {
  const { address, telegram } = await startOne(t);
  telegram.failNext("sendMessage", {
    status: 429,
    body: { ok: false, error_code: 429, description: "Too Many Requests", parameters: { retry_after: 1 } },
  });
  telegram.failNext("sendMessage", { status: 502, body: "<html>" });
  await post(address, messageUpdate(1, "hello"));
  await until(async () => (telegram.messages(SENDER).length > 0 ? true : undefined), "the reply");
  assert.equal(telegram.calls.filter((call) => call.method === "sendMessage").length, 3);
});

test("a model over budget is said to the person", async (t) => {
  const { address, telegram, model } = await startOne(t);
  model.failNext({ status: 429, body: { error: { message: "The monthly budget is spent.", type: "budget" } } });
  await post(address, messageUpdate(1, "hello"));
  await telegram.waitFor((call) => /The monthly budget is spent/.test(String(call.params["text"])));
  assert.equal(model.calls.length, 1);
});

test("asked for connections it shows the list, and of a token that there is one (F78)", async (t) => {
  const { driver, spec, model, telegram, root } = await setUpLocal(t);
  const keys: (string | undefined)[] = [];
  const integrations = [
    { provider: "gmail", name: "Gmail", state: "active", account: "ann@example.com", scopes: [], action: null },
  ];
  const gateway = await startLoopback(async (request, response) => {
    keys.push(request.headers.authorization);
    if (request.url === "/runtime/1/integrations") return sendJson(response, 200, { integrations });
    if (request.url === "/runtime/1/integrations/gmail/token")
      return sendJson(response, 200, { access_token: "at-short-lived", expires_in: 3_000 });
    sendJson(response, 404, { error: { code: "connection_missing", message: "sautai is not connected." } });
  });
  t.after(gateway.close);
  const tenantId = someTenantId();
  const systemPrompt = `The list: GET ${gateway.url}/runtime/1/integrations says what there is.`;
  const direct = JSON.stringify({ [SENDER]: { systemPrompt } });
  const config = JSON.stringify(spec(tenantId, 1).config).replace('"groupPolicy"', `"direct":${direct},"groupPolicy"`);
  await driver.ensure(spec(tenantId, 1, { config: JSON.parse(config) }));
  const { address } = await untilState(driver, tenantId, "running");
  for (const [index, words] of ["integrations", "Token gmail", "token sautai"].entries())
    await post(address, messageUpdate(index + 1, words));
  await telegram.waitFor((call) => /sautai/.test(String(call.params["text"])));
  assert.deepEqual(
    telegram.messages(SENDER).map((message) => message.text?.split("\n")[0]),
    [
      "gmail: active, ann@example.com",
      "There is a token for gmail, for 3000 s. It is not shown.",
      "sautai is not connected.",
    ],
  );
  assert.deepEqual(new Set(keys), new Set(["Bearer model-key-of-the-tenant"]));
  assert.equal(model.calls.length, 0);
  assert.doesNotMatch(await readFile(runtimeLogPath(root, tenantId), "utf8"), /at-short-lived/);
});

test("without an accepted setWebhook it never listens, and comes up once that is mended (F4, F47)", async (t) => {
  const { driver, spec, telegram, root } = await setUpLocal(t);
  const tenantId = someTenantId();
  telegram.failNext("setWebhook", { status: 403, body: { ok: false, error_code: 403, description: "Forbidden" } });
  await driver.ensure(spec(tenantId, 1));
  await until(
    async () => ((await driver.inspect(tenantId)).reason?.includes("exited with code 1") ? true : undefined),
    "the exit",
  );
  assert.equal((await driver.inspect(tenantId)).state, "starting");
  await untilState(driver, tenantId, "running");
  assert.match(await readFile(runtimeLogPath(root, tenantId), "utf8"), /setWebhook was refused: 403/);
});

test("while the Bot API can't be reached the listener stays closed and the process waits", async (t) => {
  const { driver, spec, telegram, root } = await setUpLocal(t);
  const tenantId = someTenantId();
  const moved: RuntimeSpec = spec(tenantId, 1, {
    config: JSON.parse(JSON.stringify(spec(tenantId, 1).config).replace(telegram.url, "http://127.0.0.1:1")),
  });
  await driver.ensure(moved);
  await until(
    async () => ((await readFile(runtimeLogPath(root, tenantId), "utf8")).includes("trying again") ? true : undefined),
    "a retry",
  );
  assert.equal((await driver.inspect(tenantId)).state, "starting");
  assert.equal((await processesOf(root, tenantId)).length, 1);
});

test("the log holds neither words of a person nor a token (F90, F91)", async (t) => {
  const { address, telegram, root, tenantId } = await startOne(t);
  telegram.failNext("sendChatAction", { status: 500, body: "down" });
  await post(address, messageUpdate(1, "my secret wish"));
  await telegram.waitFor((call) => call.method === "sendMessage");
  assert.doesNotMatch(await readFile(runtimeLogPath(root, tenantId), "utf8"), /secret wish|AAtenantown/);
});
