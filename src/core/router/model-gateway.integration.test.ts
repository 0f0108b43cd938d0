import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { Readable } from "node:stream";
import test, { after, before, beforeEach } from "node:test";
import { request } from "undici";
import {
  ALICE_KEY,
  BOB_KEY,
  OPERATOR_KEY,
  openModelStage,
  prompt,
  startModelGateway as start,
} from "./model-test-setup.ts";

const OPENAI_ROUTES = ["/v1/chat/completions", "/v1/responses"];
const ROUTES = [...OPENAI_ROUTES, "/v1/messages"];

let stage: Awaited<ReturnType<typeof openModelStage>>;
before(async () => {
  stage = await openModelStage();
});
after(() => stage.close());
beforeEach(() => stage.reset());

test("the tenant's key is swapped for the operator's, on every API and in either header", async (t) => {
  const { model, post } = await start(t, stage);
  for (const route of ROUTES) {
    for (const headers of [{ "x-api-key": ALICE_KEY }, { authorization: `Bearer ${ALICE_KEY}` }]) {
      const { statusCode, body } = await post(stage.alice, route, prompt("hello"), {
        ...headers,
        "anthropic-version": "2023-06-01",
        cookie: "a=b",
      });
      assert.equal(statusCode, 200);
      assert.match(await body.text(), /You said: hello/);
    }
  }
  assert.equal(model.calls.length, 6);
  for (const call of model.calls) {
    assert.equal(call.key, OPERATOR_KEY);
    assert.ok(!JSON.stringify(call.headers).includes(ALICE_KEY));
    assert.equal(call.headers.cookie, undefined);
    assert.equal(call.headers["anthropic-version"], "2023-06-01");
  }
});

test("another tenant's key, a wrong key and an unknown tenant get the same 401 in the API's own shape (F93, F96)", async (t) => {
  const { model, post } = await start(t, stage);
  for (const route of ROUTES) {
    for (const [id, key] of [
      [stage.alice, BOB_KEY],
      [stage.bob, ALICE_KEY],
      [stage.alice, OPERATOR_KEY],
      [stage.alice, ""],
      ["33333333-3333-4333-8333-333333333333", ALICE_KEY],
      ["nobody", ALICE_KEY],
    ] as const) {
      const { statusCode, body } = await post(id, route, prompt("hello"), { "x-api-key": key });
      assert.equal(statusCode, 401);
      assert.deepEqual(
        await body.json(),
        OPENAI_ROUTES.includes(route)
          ? {
              error: {
                message: "Invalid API key",
                type: "invalid_request_error",
                param: null,
                code: "invalid_api_key",
              },
            }
          : { type: "error", error: { type: "authentication_error", message: "Invalid API key" } },
      );
    }
  }
  assert.equal(model.calls.length, 0);
});

test("401 comes before the body is read", async (t) => {
  const { url } = await start(t, stage);
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  t.after(() => socket.destroy());
  socket.write(
    `POST /runtime/${stage.alice}/model/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: wrong\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n`,
  );
  let received = "";
  for await (const chunk of socket) received += String(chunk);
  assert.match(received, /^HTTP\/1\.1 401 /);
});

test("a stream passes through event by event, not when it is complete", async (t) => {
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { post } = await start(t, stage, {
    model: {
      beforeEvent: async (index) => {
        if (index === 2) await gates[0]?.promise;
        if (index === 3) await gates[1]?.promise;
      },
    },
  });
  const { headers, body } = await post(stage.alice, "/v1/chat/completions", prompt("hello", { stream: true }), {
    "x-api-key": ALICE_KEY,
  });
  assert.equal(headers["content-type"], "text/event-stream");
  let text = "";
  for await (const chunk of body) {
    text += String(chunk);
    // Each gate opens only once what came before it has arrived here.
    if (text.includes('"You "')) gates[0]?.resolve();
    if (text.includes('"said: "')) gates[1]?.resolve();
  }
  assert.match(text, /data: \[DONE\]\n\n$/);
});

test("a runtime that hangs up in the middle of a stream ends the call upstream", async (t) => {
  const never = Promise.withResolvers<void>();
  const { model, post } = await start(t, stage, {
    model: { beforeEvent: (index) => (index === 2 ? never.promise : Promise.resolve()) },
  });
  t.after(() => never.resolve());
  const { body } = await post(stage.alice, "/v1/messages", prompt("hello", { stream: true }), {
    "x-api-key": ALICE_KEY,
  });
  await once(body, "readable");
  body.on("error", () => undefined);
  body.destroy();
  assert.equal(await model.calls[0]?.outcome, "aborted");
});

test("a runtime that hangs up before the answer begins ends the call upstream", async (t) => {
  const never = Promise.withResolvers<void>();
  const { model, post } = await start(t, stage, { model: { beforeEvent: () => never.promise } });
  t.after(() => never.resolve());
  const controller = new AbortController();
  const pending = post(
    stage.alice,
    "/v1/messages",
    prompt("hello", { stream: true }),
    { "x-api-key": ALICE_KEY },
    controller.signal,
  );
  const call = await model.waitFor(() => true);
  controller.abort();
  await assert.rejects(pending, { name: "AbortError" });
  assert.equal(await call.outcome, "aborted");
});

test("a provider that is not configured is a 503, and one that can't be reached a 502, in its shape", async (t) => {
  const { post } = await start(t, stage, {
    upstreams: { anthropic: { baseUrl: "http://127.0.0.1:1", apiKey: OPERATOR_KEY } },
  });
  const openai = await post(stage.alice, "/v1/responses", prompt("x"), { "x-api-key": ALICE_KEY });
  assert.equal(openai.statusCode, 503);
  assert.match(await openai.body.text(), /"type":"server_error"/);
  const anthropic = await post(stage.alice, "/v1/messages", prompt("x"), { "x-api-key": ALICE_KEY });
  assert.equal(anthropic.statusCode, 502);
  assert.match(await anthropic.body.text(), /"type":"api_error"/);
});

test("the provider's own refusal comes back with its limits, without what names the operator", async (t) => {
  const { model, post } = await start(t, stage);
  const body = { error: { message: "Rate limit reached", type: "tokens", param: null, code: "rate_limit_exceeded" } };
  model.failNext({
    status: 429,
    body,
    headers: {
      "retry-after": "7",
      "x-ratelimit-remaining-tokens": "0",
      "openai-organization": "org-operator",
      "set-cookie": "a=b",
    },
  });
  const reply = await post(stage.alice, "/v1/chat/completions", prompt("x"), { "x-api-key": ALICE_KEY });
  assert.equal(reply.statusCode, 429);
  assert.deepEqual(await reply.body.json(), body);
  assert.equal(reply.headers["retry-after"], "7");
  assert.equal(reply.headers["x-ratelimit-remaining-tokens"], "0");
  assert.equal(reply.headers["openai-organization"], undefined);
  assert.equal(reply.headers["set-cookie"], undefined);
});

test("a body over 32 MiB is refused, declared or chunked", async (t) => {
  const { url, model } = await start(t, stage);
  const target = `${url}/runtime/${stage.alice}/model/v1/messages`;
  const headers = { "content-type": "application/json", "x-api-key": ALICE_KEY };
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  t.after(() => socket.destroy());
  socket.write(
    `POST /runtime/${stage.alice}/model/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: ${ALICE_KEY}\r\ncontent-type: application/json\r\ncontent-length: 33554433\r\n\r\n`,
  );
  const [first] = await once(socket, "data");
  assert.match(String(first), /^HTTP\/1\.1 413 /);

  async function* chunks() {
    for (let sent = 0; sent <= 32; sent += 1) yield Buffer.alloc(1024 * 1024, " ");
  }
  const { statusCode, body } = await request(target, { method: "POST", headers, body: Readable.from(chunks()) });
  assert.equal(statusCode, 413);
  assert.match(await body.text(), /request_too_large/);
  assert.equal(model.calls.length, 0);
});

test("neither keys nor prompts are ever logged (F90, F91)", async (t) => {
  const { post, lines } = await start(t, stage, {
    upstreams: { anthropic: { baseUrl: "http://127.0.0.1:1", apiKey: OPERATOR_KEY } },
  });
  for (const route of ROUTES) {
    for (const key of [ALICE_KEY, "wrong-key"]) {
      await (await post(stage.alice, route, prompt("private words"), { "x-api-key": key })).body.dump();
    }
  }
  const log = lines.join("");
  assert.match(log, /runtime\/:tenantId\/model/);
  for (const secret of [ALICE_KEY, "wrong-key", OPERATOR_KEY, "private words"])
    assert.ok(!log.includes(secret), secret);
});
