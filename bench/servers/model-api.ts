/** A model at its fastest: reads the call and streams an answer in Anthropic's events, each in a write of its own. */
import { createServer, type ServerResponse } from "node:http";
import { setImmediate as nextTurn } from "node:timers/promises";
import { serve } from "./serve.ts";

const PIECES = 100;

const event = (type: string, fields: object) =>
  Buffer.from(`event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`);
const delta = { index: 0, delta: { type: "text_delta", text: " a piece of an answer" } };
const events = [
  event("message_start", { message: { id: "msg_1", usage: { input_tokens: 9_000, output_tokens: 1 } } }),
  event("content_block_start", { index: 0, content_block: { type: "text", text: "" } }),
  ...Array.from({ length: PIECES }, () => event("content_block_delta", delta)),
  event("content_block_stop", { index: 0 }),
  event("message_delta", { delta: { stop_reason: "end_turn" }, usage: { output_tokens: 500 } }),
  event("message_stop", {}),
];

await serve(createServer((request, response) => request.on("end", () => void answer(response)).resume()));

async function answer(response: ServerResponse): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const each of events) {
    response.write(each);
    await nextTurn();
  }
  response.end();
}
