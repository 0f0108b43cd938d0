import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

/** An update that reached a runtime; `at` is in milliseconds of `performance.now()`. */
export type Arrival = { chat: number; updateId: number; at: number };

const MAX_ANSWER_MS = 20;

/** One HTTP server for each chat, which keeps what arrives as a runtime would and writes down in which order it did. */
export async function startRuntimes(chats: readonly number[]) {
  const arrivals: Arrival[] = [];
  const servers = new Map<number, Server>();
  for (const chat of chats) {
    const server = createServer(async (request, response) => {
      let text = "";
      for await (const chunk of request) text += String(chunk);
      arrivals.push({ chat, updateId: JSON.parse(text).update_id, at: performance.now() });
      // Long enough that a kill finds some under way.
      await delay(randomInt(MAX_ANSWER_MS));
      response.writeHead(200, { "x-openclaw-delivery-accepted": "durable" }).end();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    servers.set(chat, server);
  }
  return {
    arrivals,
    address(chat: number): string {
      const address = servers.get(chat)?.address();
      if (typeof address !== "object" || address === null) throw new Error(`no runtime listens for chat ${chat}`);
      return `http://127.0.0.1:${address.port}`;
    },
    close(): void {
      for (const server of servers.values()) {
        server.close();
        server.closeAllConnections();
      }
    },
  };
}
