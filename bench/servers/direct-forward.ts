/** `direct-forward.ts <secret> <file>`: forwards each update to the runtime of its chat and answers when that has; keeps nothing. */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Agent } from "undici";
import { serve } from "./serve.ts";

const [secret, file = ""] = process.argv.slice(2);
const addresses = new Map<number, string>(JSON.parse(readFileSync(file, "utf8")));
const agent = new Agent({ connections: 4 });

async function forward(body: Buffer): Promise<number> {
  const origin = addresses.get(JSON.parse(body.toString("utf8")).message.chat.id);
  if (origin === undefined) return 404;
  const response = await agent.request({
    origin,
    path: "/telegram-webhook",
    method: "POST",
    headers: { "content-type": "application/json", "x-telegram-bot-api-secret-token": "direct" },
    body,
  });
  await response.body.dump();
  return response.statusCode;
}

await serve(
  createServer((request, response) => {
    if (request.headers["x-telegram-bot-api-secret-token"] !== secret) {
      response.writeHead(403).end();
      return;
    }
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      forward(Buffer.concat(chunks)).then(
        (status) => response.writeHead(status).end(),
        () => response.writeHead(502).end(),
      );
    });
  }),
);
