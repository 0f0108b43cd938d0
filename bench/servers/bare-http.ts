/** The least a webhook can do: node:http, checks the secret, reads the body, keeps nothing. */
import { createServer } from "node:http";
import { serve } from "./serve.ts";

const [secret] = process.argv.slice(2);
await serve(
  createServer((request, response) => {
    if (request.headers["x-telegram-bot-api-secret-token"] !== secret) {
      response.writeHead(403).end();
      return;
    }
    request.on("end", () => response.writeHead(200).end()).resume();
  }),
);
