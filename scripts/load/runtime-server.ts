/**
 * `runtime-server.ts <journal> <most ms to answer> <port>…`: runtimes that keep every update as the real one does, durably
 * before they answer, each on a port of its own, 0 for any. Writes `chat update-id microseconds` to the journal and sends
 * `{ ports }` when all listen.
 */
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { openSync, writeSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

const PORT_MS = 20_000;
const [journal = "", mostMs = "0", ...ports] = process.argv.slice(2);
const file = openSync(journal, "a");

function take(request: IncomingMessage, response: ServerResponse): void {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    // Whoever sent it went away in the middle.
    if (chunks.length === 0) return void response.writeHead(400).end();
    const { update_id: updateId, message } = JSON.parse(Buffer.concat(chunks).toString());
    // The clock is the machine's, the same in every process.
    writeSync(file, `${message.chat.id} ${updateId} ${process.hrtime.bigint() / 1_000n}\n`);
    const answer = () => response.writeHead(200, { "x-openclaw-delivery-accepted": "durable" }).end();
    if (mostMs === "0") answer();
    // Long enough that a kill finds some under way.
    else setTimeout(answer, randomInt(Number(mostMs)));
  });
}

/** A port that was ours before the kill may be some connection's own for a moment. */
async function listen(server: Server, port: number): Promise<Server> {
  for (const deadline = performance.now() + PORT_MS; ; await delay(50)) {
    try {
      server.listen(port, "127.0.0.1");
      await once(server, "listening");
      return server;
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
  }
}

const listening: number[] = [];
for (const port of ports) {
  const server = await listen(createServer(take), Number(port));
  const address = server.address();
  if (address !== null && typeof address !== "string") listening.push(address.port);
}
process.once("disconnect", () => process.exit());
process.send?.({ ports: listening });
