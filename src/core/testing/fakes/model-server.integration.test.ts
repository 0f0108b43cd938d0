import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { request } from "undici";
import { startModelServer } from "./model-server.ts";

async function start(t: TestContext) {
  const model = await startModelServer({ apiKey: "key", reply: (prompt) => `re: ${prompt}` });
  t.after(() => model.close());
  const ask = async (path: string, body: unknown, key = "key"): Promise<[number, string]> => {
    const reply = await request(model.url + path, {
      method: "POST",
      headers: { "x-api-key": key },
      body: JSON.stringify(body),
    });
    return [reply.statusCode, await reply.body.text()];
  };
  return { model, ask };
}

const PROMPT = {
  messages: [
    { role: "user", content: "first" },
    { role: "assistant", content: "no" },
    { role: "user", content: [{ type: "text", text: "second" }] },
  ],
};

test("each API answers the last thing the user said, with usage", async (t) => {
  const { ask } = await start(t);
  for (const path of ["/v1/chat/completions", "/v1/messages", "/v1/responses"]) {
    const [status, text] = await ask(path, path === "/v1/responses" ? { input: "second" } : PROMPT);
    assert.equal(status, 200);
    assert.match(text, /re: second/);
    assert.match(text, /"usage":/);
  }
});

test("a chat stream ends with usage only when it is asked for", async (t) => {
  const { ask } = await start(t);
  const [, plain] = await ask("/v1/chat/completions", { ...PROMPT, stream: true });
  assert.doesNotMatch(plain, /prompt_tokens/);
  const [, counted] = await ask("/v1/chat/completions", {
    ...PROMPT,
    stream: true,
    stream_options: { include_usage: true },
  });
  assert.match(counted, /prompt_tokens.*\n\ndata: \[DONE\]\n\n$/);
});

test("a wrong key is refused in the shape of the API", async (t) => {
  const { ask } = await start(t);
  const [status, text] = await ask("/v1/messages", PROMPT, "wrong");
  assert.equal(status, 401);
  assert.equal(JSON.parse(text).error.type, "authentication_error");
});
