import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { TimeoutError } from "../../platform/errors.ts";

/** An HTTP server on a free port of 127.0.0.1; `url` has no trailing slash, `close` drops open connections. */
export type Loopback = { url: string; closeIdleConnections: () => void; close: () => Promise<void> };

export type LoopbackOptions = {
  /** With it, the server speaks HTTPS. */
  tls?: { cert: string; key: string };
};

/** Serves `handle` until closed. A handler that throws answers 500 with the error's text: these servers face only us. */
export async function startLoopback(
  handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
  { tls }: LoopbackOptions = {},
): Promise<Loopback> {
  const listener: RequestListener = (request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else sendJson(response, 500, { error: String(error) });
    });
  };
  const server = tls === undefined ? createServer(listener) : createHttpsServer(tls, listener);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The server has no TCP address");
  return {
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${address.port}`,
    closeIdleConnections: () => server.closeIdleConnections(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}

/** Entries in the order they came, and a way to wait for one without polling. */
export type Recording<Entry> = {
  entries: Entry[];
  add(entry: Entry): void;
  /** The first entry that `accepts`, already there or still to come; TimeoutError after `timeoutMs`. */
  waitFor: (accepts: (entry: Entry) => boolean, timeoutMs?: number) => Promise<Entry>;
};

export function createRecording<Entry>(): Recording<Entry> {
  const entries: Entry[] = [];
  const waiting = new Set<(entry: Entry) => void>();
  return {
    entries,
    add(entry) {
      entries.push(entry);
      for (const offer of waiting) offer(entry);
    },
    waitFor(accepts, timeoutMs = 5_000) {
      const found = entries.find(accepts);
      if (found !== undefined) return Promise.resolve(found);
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting.delete(offer);
          reject(new TimeoutError("loopback-wait", `Nothing that matches arrived within ${timeoutMs} ms`));
        }, timeoutMs);
        const offer = (entry: Entry): void => {
          if (!accepts(entry)) return;
          clearTimeout(timer);
          waiting.delete(offer);
          resolve(entry);
        };
        waiting.add(offer);
      });
    },
  };
}
