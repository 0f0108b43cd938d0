import { hash, randomUUID, timingSafeEqual } from "node:crypto";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import Fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from "fastify";
import type { ListenAddress } from "../core/platform/config.ts";
import { assertNever, ConfigError, errorMessage, OpenClawError } from "../core/platform/errors.ts";
import type { Log } from "../core/platform/log.ts";
import { createRequestLog } from "./request-log.ts";

export const MAX_WEBHOOK_BYTES = 1024 * 1024;

const REQUEST_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_MS = 72_000;

/** What is served past the framework. */
export type Shortcut = {
  matches: (request: IncomingMessage) => boolean;
  serve: (request: IncomingMessage, response: ServerResponse) => void;
};

/** A server whose every answer carries a request id and whose errors have one shape. It logs failures, never URLs or bodies. */
export function createServer(log: Log, shortcut?: Shortcut): FastifyInstance {
  const app = Fastify({
    genReqId: () => randomUUID(),
    bodyLimit: MAX_WEBHOOK_BYTES,
    serverFactory(handler) {
      // A stuck client must not hold a connection for ever.
      const limits = { requestTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: KEEP_ALIVE_MS };
      // Node would answer a missing host by itself, past all that is said here about errors.
      const server = createHttpServer({ ...limits, requireHostHeader: false }, (request, response) => {
        if (request.headers.host === undefined && request.httpVersion === "1.1") {
          const { headers, body } = malformed("The request names no host.");
          response.writeHead(400, headers).end(body);
          return;
        }
        if (shortcut?.matches(request) !== true) {
          handler(request, response);
          return;
        }
        // Shutting down: the connection ends with this answer.
        if (!server.listening) response.shouldKeepAlive = false;
        shortcut.serve(request, response);
      });
      return server;
    },
    forceCloseConnections: "idle",
    loggerInstance: createRequestLog(log),
    logController: new LogController({ disableRequestLogging: true }),
    // A path that can't be decoded never reaches the handlers below, and Fastify's own answer repeats it, token and all (F90).
    clientErrorHandler: answerNonsense,
    frameworkErrors: (_error, request, reply) => {
      const { headers, body } = malformed("The path is malformed.", request.id);
      reply.raw.writeHead(400, headers).end(body);
    },
  });
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-request-id", request.id);
  });
  app.setErrorHandler((error: FastifyError, request, reply) => sendError(log, error, request, reply));
  app.setNotFoundHandler((request, reply) => {
    reply.code(404).send(errorBody("not_found", "There is nothing here.", request.id));
  });
  return app;
}

/** An answer to what never becomes a request of the framework. */
function malformed(message: string, requestId: string = randomUUID()) {
  const body = JSON.stringify(errorBody("request_invalid", message, requestId));
  const headers = { "content-type": "application/json; charset=utf-8", "x-request-id": requestId, connection: "close" };
  return { headers: { ...headers, "content-length": Buffer.byteLength(body) }, body };
}

/** Statuses that tell more than that a request is malformed, by the parser's code. */
const PARSER_STATUSES: Record<string, number> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 };

/** Answers what is no HTTP, and ends its connection; nothing of it is repeated (F90). */
function answerNonsense(error: Error & { code?: string }, socket: Socket): void {
  if (socket.writable && error.code !== "ECONNRESET" && !isAnswering(socket)) {
    const status = PARSER_STATUSES[error.code ?? ""] ?? 400;
    const { headers, body } = malformed("This is not a well-formed HTTP request.");
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join("")}\r\n${body}`);
  }
  socket.destroySoon();
}

/** Whether an answer has begun, which another would cut into; Node's own handler asks the same. */
function isAnswering(socket: Socket): boolean {
  const answer: unknown = Reflect.get(socket, "_httpMessage");
  return typeof answer === "object" && answer !== null && Reflect.get(answer, "headersSent") === true;
}

function sendError(log: Log, error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const status = statusOf(error);
  const route = request.routeOptions.url;
  if (status >= 500) log.error({ error, route, requestId: request.id, status }, "request failed");
  const code = error instanceof OpenClawError ? error.code : status >= 500 ? "internal" : "request_invalid";
  // What went wrong inside is for the log; the caller learns what it can do.
  const message =
    status === 500
      ? "Something went wrong here. Try again, and name the request id when asking for help."
      : error.message;
  reply.code(status).send(errorBody(code, message, request.id));
}

export function errorBody(code: string, message: string, requestId: string) {
  return { error: { code, message, requestId } };
}

function statusOf(error: FastifyError): number {
  if (!(error instanceof OpenClawError)) return error.statusCode ?? 500;
  switch (error.kind) {
    case "usage":
      return 400;
    case "not-found":
      return 404;
    case "conflict":
      return 409;
    case "upstream":
    case "config":
    case "timeout":
      return 503;
    case "partial":
    case "finding":
      return 500;
    default:
      return assertNever(error.kind);
  }
}

/** Listens and gives the base URL under which this machine reaches the server. */
export async function listen(app: FastifyInstance, address: ListenAddress): Promise<string> {
  await app.listen({ host: address.host, port: address.port }).catch((error: unknown) => {
    throw new ConfigError(
      "listen_failed",
      [
        `can't listen on ${address.host}:${address.port}: ${errorMessage(error)}; see OPENCLAW_PUBLIC_LISTEN and OPENCLAW_INTERNAL_LISTEN`,
      ],
      { cause: error },
    );
  });
  const bound = app.server.address();
  if (bound === null || typeof bound === "string") throw new Error("the listener has no port");
  const host = ["0.0.0.0", "::"].includes(address.host) ? "127.0.0.1" : address.host;
  return `http://${host.includes(":") ? `[${host}]` : host}:${bound.port}`;
}

/** Keeps bodies as the bytes that arrived: signatures are over those, and updates are passed on as they came. */
export function keepRawBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  // Whatever the sender calls it: a type that the framework can't read would be refused before the signature is looked at.
  app.addHook("onRequest", async (request) => {
    request.headers["content-type"] = "application/octet-stream";
  });
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
}

/** Compares without telling by its duration how much was right; the hashes make the lengths equal (F96). */
export function isSameSecret(given: string, expected: string): boolean {
  const digest = (text: string) => hash("sha256", text, "buffer");
  return timingSafeEqual(digest(given), digest(expected));
}

/** `isSameSecret` for a header that is compared with every request; only a wrong length is told apart at once. */
export function secretMatcher(expected: string): (given: string) => boolean {
  const right = Buffer.from(expected, "latin1");
  return (given) => given.length === right.length && timingSafeEqual(Buffer.from(given, "latin1"), right);
}
