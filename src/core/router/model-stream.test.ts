import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { MODEL_APIS } from "./model-api.ts";
import { passEvents, passEventsUnseen, passWhole } from "./model-stream.ts";
import { createUsageReader } from "./model-usage.ts";

const CHAT = MODEL_APIS.find(({ route }) => route === "/v1/chat/completions") ?? assert.fail();
const MESSAGES = MODEL_APIS.find(({ route }) => route === "/v1/messages") ?? assert.fail();
const words = fc.array(fc.string({ unit: "grapheme" }), { maxLength: 5 });
const cuts = fc.array(fc.nat(400), { maxLength: 30 });

function cut(text: string, at: readonly number[]): Buffer[] {
  const bytes = Buffer.from(text);
  const places = [0, ...[...new Set(at)].sort((one, other) => one - other), bytes.length];
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

function pass(through: typeof passEvents, reader: ReturnType<typeof createUsageReader>, chunks: Buffer[]): string {
  const passage = through(reader);
  return Buffer.concat([...chunks.map((bytes) => passage.pass(bytes)), passage.end()]).toString();
}

const chunk = (fields: Record<string, unknown>, newline: string) =>
  `data: ${JSON.stringify({ object: "chat.completion.chunk", ...fields })}${newline}${newline}`;
const USAGE = { prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 };
const COUNTED = { inputTokens: 9, outputTokens: 4, cacheReadTokens: 0, cacheWriteTokens: 0, cacheWriteHourTokens: 0 };

test("a chat's stream comes out as it went in, less its usage where that wasn't asked for, wherever it is cut", () => {
  fc.assert(
    fc.property(words, cuts, fc.constantFrom("\n", "\r\n"), (pieces, at, newline) => {
      const start = pieces
        .map((content) => chunk({ choices: [{ delta: { content } }], usage: null }, newline))
        .join("");
      const usage = chunk({ choices: [], usage: USAGE }, newline);
      const end = `: note${newline}${newline}data: [DONE]${newline}${newline}`;
      const whole = start + usage + end;
      const seen = createUsageReader(CHAT, true);
      assert.equal(pass(passEvents, seen, cut(whole, at)), whole);
      assert.deepEqual(seen.end(), { kind: "measured", usage: COUNTED });
      const unseen = createUsageReader(CHAT, true);
      assert.equal(pass(passEventsUnseen, unseen, cut(whole, at)), start + end);
      assert.deepEqual(unseen.end(), { kind: "measured", usage: COUNTED });
    }),
  );
});

test("usage told with the last words stays with them", () => {
  const last = chunk({ choices: [{ delta: {}, finish_reason: "stop" }], usage: USAGE }, "\n");
  const reader = createUsageReader(CHAT, true);
  assert.equal(pass(passEventsUnseen, reader, [Buffer.from(`${last}data: [DONE]`)]), `${last}data: [DONE]`);
  assert.deepEqual(reader.end(), { kind: "measured", usage: COUNTED });
});

test("a message's usage is final with its reason to stop, and what compaction took is added", () => {
  const start = { type: "message_start", message: { usage: { input_tokens: 5, output_tokens: 1 } } };
  const delta = { type: "message_delta", delta: {}, usage: { output_tokens: 7 } };
  const stop = {
    type: "message_delta",
    delta: { stop_reason: "end_turn" },
    usage: { input_tokens: null, output_tokens: 9 },
  };
  const reader = createUsageReader(MESSAGES, true);
  for (const event of [start, delta]) reader.read(event);
  const prompt = { ...COUNTED, inputTokens: 5, outputTokens: 0 };
  assert.deepEqual(reader.end(), { kind: "unknown", prompt });
  reader.read(stop);
  assert.deepEqual(reader.end(), { kind: "measured", usage: { ...prompt, outputTokens: 9 } });

  const iterations = [
    { type: "compaction", input_tokens: 100, output_tokens: 10 },
    { type: "message", input_tokens: 5, output_tokens: 9 },
  ];
  const whole = createUsageReader(MESSAGES, false);
  const text = JSON.stringify({ usage: { input_tokens: 5, output_tokens: 9, iterations } });
  assert.equal(pass(passWhole, whole, cut(text, [3, 20])), text);
  assert.deepEqual(whole.end(), { kind: "measured", usage: { ...COUNTED, inputTokens: 105, outputTokens: 19 } });
});
