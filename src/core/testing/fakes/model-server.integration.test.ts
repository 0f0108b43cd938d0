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

test("a tool is called in the shape of the API, and what it brought is the next prompt", async (t) => {
  const heard: string[] = [];
  const toolCall = { tool: "exec", input: { command: "date" } };
  const model = await startModelServer({
    reply(prompt) {
      heard.push(prompt);
      return toolCall;
    },
  });
  t.after(() => model.close());
  const ask = async (path: string, body: unknown): Promise<string> =>
    (await request(model.url + path, { method: "POST", body: JSON.stringify(body) })).body.text();
  const brought = { type: "tool_result", tool_use_id: "1", content: [{ type: "text", text: "Thursday" }] };
  const messages = { messages: [...PROMPT.messages, { role: "user", content: [brought] }] };
  const chat = { messages: [...PROMPT.messages, { role: "tool", tool_call_id: "1", content: "Friday" }] };

  const { content, stop_reason: stopReason } = JSON.parse(await ask("/v1/messages", messages));
  assert.equal(stopReason, "tool_use");
  assert.deepEqual([content[0].type, content[0].name, content[0].input], ["tool_use", "exec", { command: "date" }]);
  const streamed = await ask("/v1/messages", { ...messages, stream: true });
  assert.match(streamed, /"type":"tool_use".*"input":\{\}.*"partial_json":"\{\\"command\\":\\"date\\"\}".*"tool_use"/s);
  const [choice] = JSON.parse(await ask("/v1/chat/completions", chat)).choices;
  assert.equal(choice.finish_reason, "tool_calls");
  assert.equal(choice.message.tool_calls[0].function.arguments, '{"command":"date"}');
  assert.match(
    await ask("/v1/chat/completions", { ...chat, stream: true }),
    /"tool_calls":\[\{"index":0.*"finish_reason":"tool_calls"/s,
  );
  assert.deepEqual(heard, ["Thursday", "Thursday", "Friday", "Friday"]);
});
