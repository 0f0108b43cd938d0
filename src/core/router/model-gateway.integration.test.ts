import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { Readable } from "node:stream";
import test, { type TestContext } from "node:test";
import Fastify from "fastify";
import { request } from "undici";
import { systemClock } from "../platform/clock.ts";
import { parseTenantId, type TenantId } from "../platform/ids.ts";
import { startModelServer } from "../testing/fakes/model-server.ts";
import { type Admission, type ModelUpstream, registerModelGateway } from "./model-gateway.ts";
import { createRuntimeAuth } from "./runtime-auth.ts";

const OPERATOR_KEY = "sk-operator-key";
const ALICE = tenantId("11111111-1111-4111-8111-111111111111");
const BOB = tenantId("22222222-2222-4222-8222-222222222222");
const KEYS = new Map([
  [ALICE, "alice-key"],
  [BOB, "bob-key"],
]);
const OPENAI_ROUTES = ["/v1/chat/completions", "/v1/responses"];
const ROUTES = [...OPENAI_ROUTES, "/v1/messages"];

function tenantId(text: string): TenantId {
  const id = parseTenantId(text);
  if (id === undefined) throw new Error(text);
  return id;
}

type Options = {
  admit?: (id: TenantId) => Promise<Admission>;
  upstreams?: { anthropic?: ModelUpstream; openai?: ModelUpstream };
  beforeEvent?: (index: number) => Promise<void>;
};

async function start(t: TestContext, options: Options = {}) {
  const model = await startModelServer({
    apiKey: OPERATOR_KEY,
    ...(options.beforeEvent === undefined ? {} : { beforeEvent: options.beforeEvent }),
  });
  const lines: string[] = [];
  const app = Fastify({ logger: { level: "trace", stream: { write: (line: string) => void lines.push(line) } } });
  await registerModelGateway(app, {
    auth: createRuntimeAuth({
      clock: systemClock,
      credentials: {
        find: async (id) => {
          const key = KEYS.get(id);
          return key === undefined ? undefined : createHash("sha256").update(key).digest();
        },
      },
    }),
    upstreams: options.upstreams ?? {
      anthropic: { baseUrl: model.url, apiKey: OPERATOR_KEY },
      openai: { baseUrl: `${model.url}/v1`, apiKey: OPERATOR_KEY },
    },
    admit: options.admit ?? (async () => ({ ok: true })),
  });
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  t.after(async () => {
    await model.close();
    await app.close();
  });

  const post = (id: string, route: string, body: unknown, headers: Record<string, string>, signal?: AbortSignal) =>
    request(`${url}/runtime/${id}/model${route}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
      ...(signal === undefined ? {} : { signal }),
    });
  return { model, url, post, lines };
}

function prompt(text: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  const messages = [{ role: "user", content: text }];
  return { model: "loopback", messages, input: messages, ...more };
}

test("the tenant's key is swapped for the operator's, on every API and in either header", async (t) => {
  const { model, post } = await start(t);
  for (const route of ROUTES) {
    for (const headers of [{ "x-api-key": "alice-key" }, { authorization: "Bearer alice-key" }]) {
      const { statusCode, body } = await post(ALICE, route, prompt("hello"), {
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
    assert.ok(!JSON.stringify(call.headers).includes("alice-key"));
    assert.equal(call.headers.cookie, undefined);
    assert.equal(call.headers["anthropic-version"], "2023-06-01");
  }
});

test("another tenant's key, a wrong key and an unknown tenant get the same 401 in the API's own shape (F93, F96)", async (t) => {
  const { model, post } = await start(t);
  for (const route of ROUTES) {
    for (const [id, key] of [
      [ALICE, "bob-key"],
      [BOB, "alice-key"],
      [ALICE, OPERATOR_KEY],
      [ALICE, ""],
      ["33333333-3333-4333-8333-333333333333", "alice-key"],
      ["nobody", "alice-key"],
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
  const { url } = await start(t);
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  t.after(() => socket.destroy());
  socket.write(
    `POST /runtime/${ALICE}/model/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: wrong\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n`,
  );
  let received = "";
  for await (const chunk of socket) received += String(chunk);
  assert.match(received, /^HTTP\/1\.1 401 /);
});

test("a stream passes through event by event, not when it is complete", async (t) => {
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { post } = await start(t, {
    beforeEvent: async (index) => {
      if (index === 2) await gates[0]?.promise;
      if (index === 3) await gates[1]?.promise;
    },
  });
  const { headers, body } = await post(ALICE, "/v1/chat/completions", prompt("hello", { stream: true }), {
    "x-api-key": "alice-key",
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
  const { model, post } = await start(t, { beforeEvent: (index) => (index === 2 ? never.promise : Promise.resolve()) });
  t.after(() => never.resolve());
  const { body } = await post(ALICE, "/v1/messages", prompt("hello", { stream: true }), { "x-api-key": "alice-key" });
  await once(body, "readable");
  body.on("error", () => undefined);
  body.destroy();
  assert.equal(await model.calls[0]?.outcome, "aborted");
});

test("a runtime that hangs up before the answer begins ends the call upstream", async (t) => {
  const never = Promise.withResolvers<void>();
  const { model, post } = await start(t, { beforeEvent: () => never.promise });
  t.after(() => never.resolve());
  const controller = new AbortController();
  const pending = post(
    ALICE,
    "/v1/messages",
    prompt("hello", { stream: true }),
    { "x-api-key": "alice-key" },
    controller.signal,
  );
  const call = await model.waitFor(() => true);
  controller.abort();
  await assert.rejects(pending, { name: "AbortError" });
  assert.equal(await call.outcome, "aborted");
});

test("a tenant that is not admitted is refused in the API's shape, is told not to retry, and reaches no model", async (t) => {
  const { model, post } = await start(t, {
    admit: async () => ({ ok: false, status: 429, code: "over_budget", message: "The budget of this month is spent" }),
  });
  const { statusCode, headers, body } = await post(ALICE, "/v1/chat/completions", prompt("x"), {
    "x-api-key": "alice-key",
  });
  assert.equal(statusCode, 429);
  assert.equal(headers["x-should-retry"], "false");
  assert.deepEqual(await body.json(), {
    error: {
      message: "The budget of this month is spent",
      type: "insufficient_quota",
      param: null,
      code: "over_budget",
    },
  });
  assert.equal(model.calls.length, 0);
});

test("a provider that is not configured is a 503, and one that can't be reached a 502, in its shape", async (t) => {
  const { post } = await start(t, {
    upstreams: { anthropic: { baseUrl: "http://127.0.0.1:1", apiKey: OPERATOR_KEY } },
  });
  const openai = await post(ALICE, "/v1/responses", prompt("x"), { "x-api-key": "alice-key" });
  assert.equal(openai.statusCode, 503);
  assert.match(await openai.body.text(), /"type":"server_error"/);
  const anthropic = await post(ALICE, "/v1/messages", prompt("x"), { "x-api-key": "alice-key" });
  assert.equal(anthropic.statusCode, 502);
  assert.match(await anthropic.body.text(), /"type":"api_error"/);
});

test("the provider's own refusal comes back with its limits, without what names the operator", async (t) => {
  const { model, post } = await start(t);
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
  const reply = await post(ALICE, "/v1/chat/completions", prompt("x"), { "x-api-key": "alice-key" });
  assert.equal(reply.statusCode, 429);
  assert.deepEqual(await reply.body.json(), body);
  assert.equal(reply.headers["retry-after"], "7");
  assert.equal(reply.headers["x-ratelimit-remaining-tokens"], "0");
  assert.equal(reply.headers["openai-organization"], undefined);
  assert.equal(reply.headers["set-cookie"], undefined);
});

test("a body over 32 MiB is refused, declared or chunked", async (t) => {
  const { url, model } = await start(t);
  const target = `${url}/runtime/${ALICE}/model/v1/messages`;
  const headers = { "content-type": "application/json", "x-api-key": "alice-key" };
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  t.after(() => socket.destroy());
  socket.write(
    `POST /runtime/${ALICE}/model/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: alice-key\r\ncontent-type: application/json\r\ncontent-length: 33554433\r\n\r\n`,
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
  const { post, lines } = await start(t, {
    upstreams: { anthropic: { baseUrl: "http://127.0.0.1:1", apiKey: OPERATOR_KEY } },
  });
  for (const route of ROUTES) {
    for (const key of ["alice-key", "wrong-key"]) {
      await (await post(ALICE, route, prompt("private words"), { "x-api-key": key })).body.dump();
    }
  }
  const log = lines.join("");
  assert.match(log, /runtime\/:tenantId\/model/);
  for (const secret of ["alice-key", "wrong-key", OPERATOR_KEY, "private words"])
    assert.ok(!log.includes(secret), secret);
});
