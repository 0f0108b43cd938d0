import assert from "node:assert/strict";
import test from "node:test";
import { MODEL_APIS } from "./model-api.ts";
import { boundRequest, readModelRequest, writeModelRequest } from "./model-request.ts";

const SIZES = { contextTokens: 200_000, outputTokens: 64_000, imageTokens: 1_700 };
const api = (route: string) => MODEL_APIS.find((one) => one.route === route) ?? assert.fail();
const MESSAGES = api("/v1/messages");
const CHAT = api("/v1/chat/completions");

function bound(body: Record<string, unknown>, of = MESSAGES) {
  const asked = readModelRequest(of, JSON.stringify({ model: "m", max_tokens: 100, ...body }));
  return boundRequest(asked, Buffer.byteLength(writeModelRequest(of, asked, SIZES.outputTokens)), SIZES);
}

const said = (...content: unknown[]) => ({ messages: [{ role: "user", content }] });
const data = "A".repeat(10_000);

test("a prompt is bound by its bytes, whatever its letters, and by the model's context", () => {
  const latin = bound(said({ type: "text", text: "a".repeat(300) }));
  const kanji = bound(said({ type: "text", text: "漢".repeat(300) }));
  assert.equal(kanji.inputTokens - latin.inputTokens, 600);
  assert.equal(bound(said({ type: "text", text: "a".repeat(300_000) })).inputTokens, 200_000);
});

test("pictures and documents count by the piece instead of by their bytes, where the API takes them", () => {
  const none = bound(said()).inputTokens;
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data } };
  const inTool = { type: "tool_result", tool_use_id: "t", content: [image] };
  for (const block of [image, inTool]) {
    const { inputTokens } = bound(said(block));
    assert.ok(inputTokens - none > 1_700 && inputTokens - none < 2_000, `${inputTokens - none}`);
  }
  assert.equal(bound(said({ type: "document", source: { type: "base64", data } })).inputTokens, 200_000);
  assert.ok(bound(said({ type: "document", source: { type: "text", data } })).inputTokens - none < 11_000);
  const nested = { type: "document", source: { type: "content", content: [image, image] } };
  assert.ok(bound(said(nested)).inputTokens - none > 3_400);
  const asArgument = bound({ messages: [{ role: "assistant", content: [{ type: "tool_use", input: image }] }] });
  assert.ok(asArgument.inputTokens - none > 10_000);
  assert.ok(
    bound(said({ type: "video_url", video_url: { url: "https://example.com/v" } })).inputTokens - none > 50_000,
  );
});

test("a file that is kept at the provider is refused wherever it stands", () => {
  const file = { type: "image", source: { type: "file", file_id: "file_of_bob" } };
  for (const block of [
    file,
    { type: "tool_result", tool_use_id: "t", content: [file] },
    { type: "document", source: { type: "content", content: [file] } },
  ])
    assert.throws(() => bound(said(block)), /does not offer a file kept at the provider/);
  const responses = api("/v1/responses");
  const screenshot = { type: "computer_screenshot", file_id: "file_of_bob" };
  for (const item of [
    { type: "function_call_output", output: screenshot },
    { type: "item_reference", id: "msg_1" },
  ])
    assert.throws(() => bound({ input: [item] }, responses), /does not offer/);
  assert.match(
    writeModelRequest(responses, readModelRequest(responses, '{"model":"m","store":true}'), 9),
    /"store":false/,
  );
});

test("every answer that is asked for is bound", () => {
  assert.equal(bound({ n: 3 }, CHAT).outputTokens, 300);
  assert.equal(bound({ max_tokens: undefined }, CHAT).outputTokens, 8_192);
  assert.equal(bound({ max_tokens: 90_000 }).outputTokens, 64_000);
  assert.equal(bound({ max_completion_tokens: 7 }, CHAT).outputTokens, 7);
  for (const n of [0, 1.5, "3", 129]) assert.throws(() => bound({ n }, CHAT), /n must be a whole number/);
});

test("what is sent says one thing only, however often the caller said it", () => {
  const text = '{"model":"cheap","model":"dear","max_tokens":1,"max_tokens":9,"n":1,"n":5,"messages":[]}';
  const asked = readModelRequest(CHAT, text);
  assert.deepEqual([asked.model, asked.outputTokens, asked.answers], ["dear", 9, 5]);
  const sent = writeModelRequest(CHAT, asked, 100);
  assert.equal(sent, '{"model":"dear","max_tokens":9,"n":5,"messages":[]}');
});
