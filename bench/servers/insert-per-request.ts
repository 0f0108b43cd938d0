/** Durable acceptance as it is usually written: node:http, one INSERT and so one commit for each request, a pool of 16. */
import { createServer } from "node:http";
import pg from "pg";
import { serve } from "./serve.ts";

const [secret, databaseUrl] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString: databaseUrl, max: 16 });

async function accept(body: Buffer): Promise<void> {
  const update = JSON.parse(body.toString("utf8"));
  const chatId = update.message.chat.id;
  await pool.query({
    name: "insert",
    text: `INSERT INTO telegram_updates (bot_id, update_id, lane, shard, body, accepted_at)
      VALUES (1, $1, $2, $3, $4, now()) ON CONFLICT (bot_id, update_id) DO NOTHING`,
    values: [update.update_id, chatId, chatId % 64, body],
  });
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
      accept(Buffer.concat(chunks)).then(
        () => response.writeHead(200).end(),
        () => response.writeHead(503).end(),
      );
    });
  }),
);
