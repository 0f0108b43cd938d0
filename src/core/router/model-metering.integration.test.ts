import assert from "node:assert/strict";
import { once } from "node:events";
import test, { after, before, beforeEach } from "node:test";
import { sql } from "kysely";
import { request } from "undici";
import {
  ALICE_KEY,
  MODEL,
  openModelStage,
  OPERATOR_KEY,
  prompt,
  startModelGateway as start,
} from "./model-test-setup.ts";
import { startLoopback } from "../testing/fakes/loopback.ts";

const ROUTES = ["/v1/messages", "/v1/chat/completions", "/v1/responses"] as const;
const CACHES = { cacheReadTokens: 200, cacheWriteTokens: 100, cacheWriteHourTokens: 40 };

let stage: Awaited<ReturnType<typeof openModelStage>>;
before(async () => {
  stage = await openModelStage();
});
after(() => stage.close());
beforeEach(() => stage.reset());

const open = async () =>
  (await sql<{ count: number }>`SELECT count(*) FROM usage_reservations`.execute(stage.db)).rows[0]?.count;

/** Resolves once nothing is reserved any more. */
async function settled(): Promise<void> {
  while ((await open()) !== 0) await new Promise((resolve) => setImmediate(resolve));
}

test("usage is read from every API, whole and as a stream, caches included", async (t) => {
  const { ask, model } = await start(t, stage, { model: { caches: CACHES } });
  for (const route of ROUTES) {
    for (const stream of [false, true]) {
      await stage.reset();
      const { statusCode } = await ask(route, prompt("hello", { stream }));
      assert.equal(statusCode, 200);
      const sent = model.calls.at(-1)?.body ?? {};
      const input = Math.ceil(JSON.stringify(sent).length / 4);
      const output = Math.ceil("You said: hello".length / 4);
      // OpenAI tells nothing of writes, and counts all of the prompt as input.
      const [write, hour] = route === "/v1/messages" ? [100, 40] : [0, 0];
      const expected = { input: input + 100 - write, output, read: 200, write, hour };
      const cost = expected.input + 5 * output + 20 + 1.25 * (write - hour) + 2 * hour;
      assert.deepEqual(
        await stage.records(),
        [{ ...expected, cost: Math.ceil(cost), assumed: false }],
        `${route} ${stream}`,
      );
      assert.equal(await open(), 0);
    }
  }
});

test("what is counted is the model that was asked for, whatever name the answer gives itself (F63)", async (t) => {
  const upstream = await startLoopback(async (_request, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ model: "placeholder", usage: { prompt_tokens: 10, completion_tokens: 2 } }));
  });
  t.after(() => upstream.close());
  const { ask } = await start(t, stage, { upstreams: { openai: { baseUrl: upstream.url, apiKey: OPERATOR_KEY } } });
  await ask("/v1/chat/completions", prompt("x"));
  const { rows } = await sql`SELECT model, cost_micro_usd AS cost FROM usage_records`.execute(stage.db);
  assert.deepEqual(rows, [{ model: MODEL, cost: 20 }]);
});

test("OpenAI is asked for a stream's usage, which only a caller sees that asked for it, too", async (t) => {
  const { ask, model } = await start(t, stage);
  const unasked = await ask("/v1/chat/completions", prompt("grüß dich 👋", { stream: true }));
  assert.deepEqual(model.calls[0]?.body["stream_options"], { include_usage: true });
  assert.ok(!unasked.text.includes("prompt_tokens"));
  assert.match(unasked.text, /You .*grüß .*dich .*👋.*data: \[DONE\]\n\n$/s);
  const asked = await ask(
    "/v1/chat/completions",
    prompt("hello", { stream: true, stream_options: { include_usage: true, other: 1 } }),
  );
  assert.match(asked.text, /"prompt_tokens":\d+.*\[DONE\]/s);
  assert.deepEqual(model.calls[1]?.body["stream_options"], { include_usage: true, other: 1 });
  assert.equal((await stage.records()).length, 2);
});

test("every answer is limited: by the caller, by default, and by what the model can say", async (t) => {
  const { ask, model } = await start(t, stage);
  const sent = () => model.calls.at(-1)?.body ?? {};
  await ask("/v1/messages", prompt("x", { max_tokens: 17 }));
  assert.equal(sent()["max_tokens"], 17);
  await ask("/v1/messages", prompt("x", { max_tokens: 500_000 }));
  assert.equal(sent()["max_tokens"], 64_000);
  await ask("/v1/chat/completions", prompt("x"));
  assert.equal(sent()["max_completion_tokens"], 8_192);
  await ask("/v1/chat/completions", prompt("x", { max_tokens: 20 }));
  assert.deepEqual([sent()["max_tokens"], sent()["max_completion_tokens"]], [20, undefined]);
  await ask("/v1/responses", prompt("x"));
  assert.equal(sent()["max_output_tokens"], 8_192);
  const { statusCode, text } = await ask("/v1/responses", prompt("x", { max_output_tokens: -1 }));
  assert.equal(statusCode, 400);
  assert.match(text, /max_output_tokens must be a whole number/);
});

test("of 50 calls at once, exactly those reach the model for which the budget has room", async (t) => {
  const gate = Promise.withResolvers<void>();
  const { post, model, results } = await start(t, stage, { model: { beforeEvent: () => gate.promise } });
  const body = prompt("hello", { stream: true, max_tokens: 100 });
  const each = Buffer.byteLength(JSON.stringify(body)) + 4_000 + 100;
  await stage.allow(10 * each + each - 1);
  const replies = Promise.all(
    Array.from({ length: 50 }, async () => {
      const {
        statusCode,
        headers,
        body: answer,
      } = await post(stage.alice, "/v1/messages", body, { "x-api-key": ALICE_KEY });
      return { statusCode, retry: headers["x-should-retry"], text: await answer.text() };
    }),
  );
  while (results.length < 40) await new Promise((resolve) => setImmediate(resolve));
  gate.resolve();
  const refused = (await replies).filter(({ statusCode }) => statusCode === 429);
  assert.equal(refused.length, 40);
  assert.equal(model.calls.length, 10);
  for (const { retry, text } of refused) {
    assert.equal(retry, "false");
    assert.match(text, /"type":"rate_limit_error"/);
  }
  const records = await stage.records();
  assert.equal(records.length, 10);
  const { rows } = await sql`SELECT calls, tokens, cost_micro_usd AS cost FROM usage_months`.execute(stage.db);
  const sum = (pick: (record: (typeof records)[number]) => number) =>
    records.reduce((total, one) => total + pick(one), 0);
  assert.deepEqual(rows, [
    { calls: 10, tokens: sum(({ input, output }) => input + output), cost: sum(({ cost }) => cost) },
  ]);
});

test("a runtime that hangs up pays for its prompt as counted and for its answer as reserved", async (t) => {
  const never = Promise.withResolvers<void>();
  const { post, model } = await start(t, stage, {
    model: { caches: CACHES, beforeEvent: (index) => (index === 2 ? never.promise : Promise.resolve()) },
  });
  t.after(() => never.resolve());
  const body = prompt("hello", { stream: true, max_tokens: 1_000 });
  const { body: answer } = await post(stage.alice, "/v1/messages", body, { "x-api-key": ALICE_KEY });
  await once(answer, "readable");
  answer.on("error", () => undefined);
  answer.destroy();
  assert.equal(await model.calls[0]?.outcome, "aborted");
  await settled();
  const input = Math.ceil(JSON.stringify(model.calls[0]?.body).length / 4);
  const [{ cost: _cost, ...record } = { cost: 0 }] = await stage.records();
  assert.deepEqual(record, { input, output: 1_000, read: 200, write: 100, hour: 40, assumed: true });
});

test("a runtime that hangs up while its call waits for its turn reaches no model and pays nothing", async (t) => {
  const { post, model, results } = await start(t, stage);
  const client = await stage.pool.connect();
  await client.query("BEGIN; SELECT FROM spending_limits FOR UPDATE");
  const controller = new AbortController();
  const lost = post(stage.alice, "/v1/messages", prompt("x"), { "x-api-key": ALICE_KEY }, controller.signal);
  const waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
  while ((await stage.pool.query(waits)).rowCount === 0);
  controller.abort();
  await assert.rejects(lost, { name: "AbortError" });
  // Another's connection is answered only after the first one's end was seen.
  const { statusCode } = await post("nobody", "/v1/messages", {}, {});
  assert.equal(statusCode, 401);
  await client.query("ROLLBACK");
  client.release();
  while (results.length === 0) await new Promise((resolve) => setImmediate(resolve));
  await settled();
  assert.deepEqual([results, model.calls.length, await stage.records()], [["free"], 0, []]);
});

test("an answer that breaks off, or whose usage can't be read, counts as it was reserved", async (t) => {
  const answers = [
    "not JSON",
    '{"no":"usage"}',
    '{"usage":{"input_tokens":-1,"output_tokens":2}}',
    '{"usage":{"input_tokens":"9","output_tokens":2}}',
  ];
  const upstream = await startLoopback(async (_request, response) => {
    const text = answers.shift();
    response.writeHead(200, { "content-type": "application/json" });
    if (text !== undefined) return void response.end(text);
    response.write('{"usage":');
    response.destroy();
  });
  t.after(() => upstream.close());
  const { post } = await start(t, stage, { upstreams: { anthropic: { baseUrl: upstream.url, apiKey: OPERATOR_KEY } } });
  const body = prompt("hello", { max_tokens: 50 });
  const input = Buffer.byteLength(JSON.stringify(body)) + 4_000;
  for (let nth = 0; nth < 5; nth += 1) {
    const reply = await post(stage.alice, "/v1/messages", body, { "x-api-key": ALICE_KEY });
    await reply.body.text().catch(() => undefined);
  }
  await settled();
  for (const record of await stage.records())
    assert.deepEqual([record.input, record.output, record.assumed], [input, 50, true]);
  assert.equal((await stage.records()).length, 5);
});

test("a provider's own error costs nothing, one from in between counts as reserved, and so does a lost connection", async (t) => {
  const { ask, model } = await start(t, stage);
  const own = { type: "error", error: { type: "overloaded_error", message: "Overloaded" } };
  model.failNext({ status: 529, body: own });
  assert.deepEqual(
    await ask("/v1/messages", prompt("x")).then(({ statusCode, text }) => [statusCode, JSON.parse(text)]),
    [529, own],
  );
  assert.deepEqual(await stage.records(), []);
  model.failNext({ status: 504, body: "stream timeout" });
  assert.equal((await ask("/v1/messages", prompt("x"))).statusCode, 504);
  assert.equal((await stage.records()).length, 1);

  const hangsUp = await startLoopback(async (request) => void request.socket.destroy());
  t.after(() => hangsUp.close());
  const { ask: askLost } = await start(t, stage, {
    upstreams: { anthropic: { baseUrl: hangsUp.url, apiKey: OPERATOR_KEY } },
  });
  assert.equal((await askLost("/v1/messages", prompt("x"))).statusCode, 502);
  await settled();
  assert.equal((await stage.records()).length, 2);

  const { ask: askNobody } = await start(t, stage, {
    upstreams: { anthropic: { baseUrl: "http://127.0.0.1:1", apiKey: OPERATOR_KEY } },
  });
  assert.equal((await askNobody("/v1/messages", prompt("x"))).statusCode, 502);
  await settled();
  assert.equal((await stage.records()).length, 2);
});

test("a model of no plan, or without a price, is refused in the API's shape, and so is whoever may not run", async (t) => {
  const { ask, model } = await start(t, stage);
  for (const name of ["claude-sonnet-4-5", "made-up"]) {
    const { statusCode, headers, text } = await ask("/v1/chat/completions", prompt("x", { model: name }));
    assert.equal(statusCode, 404);
    assert.equal(JSON.parse(text).error.code, "model_not_found");
    assert.notEqual(headers["x-should-retry"], "true");
  }
  await stage.pool.query("UPDATE tenants SET billing_exempt = false WHERE slug = 'alice'");
  t.after(() => stage.pool.query("UPDATE tenants SET billing_exempt = true WHERE slug = 'alice'"));
  const { statusCode, text } = await ask("/v1/messages", prompt("x"));
  assert.equal(statusCode, 403);
  assert.match(text, /permission_error.*no subscription/);
  assert.equal(model.calls.length, 0);
});

test("what tokens don't pay for, or what others left at the provider, is refused; the caller's own tools are not", async (t) => {
  const { ask, model } = await start(t, stage);
  const refused: [(typeof ROUTES)[number], Record<string, unknown>][] = [
    ["/v1/responses", { previous_response_id: "resp_1" }],
    ["/v1/responses", { background: true }],
    ["/v1/responses", { input: [{ type: "item_reference", id: "msg_1" }] }],
    ["/v1/messages", { context_management: { edits: [{ type: "compact_20260112" }] } }],
    ["/v1/responses", { tools: [{ type: "web_search" }] }],
    ["/v1/responses", { input: [{ role: "user", content: [{ type: "input_file", file_id: "file_1" }] }] }],
    ["/v1/chat/completions", { web_search_options: {} }],
    ["/v1/chat/completions", { service_tier: "priority" }],
    ["/v1/chat/completions", { modalities: ["text", "audio"] }],
    ["/v1/messages", { tools: [{ type: "web_search_20250305", name: "web_search" }] }],
    ["/v1/messages", { mcp_servers: [{}] }],
    [
      "/v1/messages",
      { messages: [{ role: "user", content: [{ type: "image", source: { type: "file", file_id: "f" } }] }] },
    ],
  ];
  for (const [route, fields] of refused) {
    const { statusCode, text } = await ask(route, prompt("x", fields));
    assert.equal(statusCode, 400, text);
    assert.match(text, /does not offer/);
  }
  for (const text of ["[1]", "{", '{"model":7}']) {
    const reply = await ask("/v1/messages", JSON.parse(JSON.stringify(text)));
    assert.equal(reply.statusCode, 400);
  }
  assert.equal(model.calls.length, 0);
  const tools = [
    { name: "mine", input_schema: {} },
    { type: "custom", name: "x" },
    { type: "bash_20250124", name: "bash" },
  ];
  assert.equal((await ask("/v1/messages", prompt("x", { tools }))).statusCode, 200);
  assert.equal(
    (await ask("/v1/chat/completions", prompt("x", { service_tier: "auto", tools: [{ type: "function" }] })))
      .statusCode,
    200,
  );
});

test("bytes that are no text are refused: what they are read as would be longer than they are", async (t) => {
  const { url, model } = await start(t, stage);
  const beginning = Buffer.from(
    `{"model":"${MODEL}","max_tokens":10,"messages":[{"role":"user","content":[{"type":"image","source":{"data":"`,
  );
  const body = Buffer.concat([beginning, Buffer.alloc(10_000, 0xff), Buffer.from('"}}]}]}')]);
  const { statusCode } = await request(`${url}/runtime/${stage.alice}/model/v1/messages`, {
    method: "POST",
    headers: { "x-api-key": ALICE_KEY, "content-type": "application/json" },
    body,
  });
  assert.equal(statusCode, 400);
  assert.equal(model.calls.length, 0);
});

test("an image counts by the piece, but only where the API takes one", async (t) => {
  const { ask } = await start(t, stage);
  const data = "A".repeat(100_000);
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data } };
  await stage.allow(20_000);
  const seen = await ask("/v1/messages", {
    ...prompt("x"),
    max_tokens: 10,
    messages: [{ role: "user", content: [image] }],
  });
  assert.equal(seen.statusCode, 200);
  await stage.reset();
  await stage.allow(20_000);
  const asText = [{ role: "assistant", content: [{ type: "tool_use", id: "1", name: "x", input: image }] }];
  const smuggled = await ask("/v1/messages", { ...prompt("x"), max_tokens: 10, messages: asText });
  assert.equal(smuggled.statusCode, 429);
});
