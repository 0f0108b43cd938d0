import { createHash, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Settings } from "./settings.ts";

const MAX_BODY_BYTES = 1024 * 1024;
const BODY_TIMEOUT_MS = 30_000;
/** Longer than a router keeps idle connections, so that it never writes into one that is being closed. */
const KEEP_ALIVE_MS = 75_000;

/**
 * The webhook listener, answering as the real runtime does. `accept` resolves once the update is durable.
 * Resolves when it listens.
 */
export function startListener(
  listen: Settings["listen"],
  accept: (updateId: number, update: unknown) => Promise<void>,
): Promise<Server> {
  const secret = digest(listen.secret);

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method === "GET" && request.url === "/healthz") return answer(response, 200, "ok");
    if (request.method !== "POST" || request.url !== listen.path) return answer(response, 404, "");
    if (!timingSafeEqual(digest(String(request.headers["x-telegram-bot-api-secret-token"] ?? "")), secret)) {
      return answer(response.setHeader("connection", "close"), 401, "unauthorized");
    }
    const body = await readBody(request);
    if (body === undefined) return answer(response.setHeader("connection", "close"), 413, "Payload Too Large");
    let update: unknown;
    try {
      update = JSON.parse(body);
    } catch (error) {
      return answer(response, 400, String(error));
    }
    const updateId =
      typeof update === "object" && update !== null && "update_id" in update ? update.update_id : undefined;
    if (typeof updateId !== "number") return answer(response, 500, "");
    await accept(updateId, update);
    answer(response.setHeader("x-openclaw-delivery-accepted", "durable"), 200, "");
  }

  const server = createServer(
    { requestTimeout: BODY_TIMEOUT_MS, keepAliveTimeout: KEEP_ALIVE_MS },
    (request, response) => {
      // Not durable, so it must not look accepted: the router comes again.
      handle(request, response).catch(() => (response.headersSent ? response.destroy() : answer(response, 500, "")));
    },
  );
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, () => resolve(server));
  });
}

function answer(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "content-length": Buffer.byteLength(body) }).end(body);
}

/** Undefined for a body that is too big. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    const piece = Buffer.from(chunk);
    bytes += piece.length;
    // Read on to the end: closing on a sender in the middle of its body would hide the answer from it.
    if (bytes <= MAX_BODY_BYTES) chunks.push(piece);
  }
  return bytes > MAX_BODY_BYTES ? undefined : Buffer.concat(chunks).toString("utf8");
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
