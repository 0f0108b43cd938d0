/** The Bot API at its fastest: reads the call and answers with a message. */
import { createServer } from "node:http";
import { serve } from "./serve.ts";

const answer = JSON.stringify({
  ok: true,
  result: { message_id: 1, date: 1_800_000_000, chat: { id: 1, type: "private" }, text: "This is the answer" },
});
await serve(
  createServer((request, response) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(answer) };
    request.on("end", () => response.writeHead(200, headers).end(answer)).resume();
  }),
);
