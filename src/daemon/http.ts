import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { ListenAddress } from "../core/platform/config.ts";
import { assertNever, ConfigError, errorMessage, OpenClawError } from "../core/platform/errors.ts";
import type { Log } from "../core/platform/log.ts";
import { createRequestLog } from "./request-log.ts";

export const MAX_WEBHOOK_BYTES = 1024 * 1024;

/** A server whose every answer carries a request id and whose errors have one shape. It logs failures, never URLs or bodies. */
export function createServer(log: Log): FastifyInstance {
  const app = Fastify({
    genReqId: () => randomUUID(),
    bodyLimit: MAX_WEBHOOK_BYTES,
    // A stuck client must not hold a connection for ever.
    requestTimeout: 60_000,
    forceCloseConnections: "idle",
    loggerInstance: createRequestLog(log),
    disableRequestLogging: true,
    // A path that can't be decoded never reaches the handlers below, and Fastify's own answer repeats it, token and all (F90).
    frameworkErrors: (_error, request, reply) => {
      reply.raw
        .writeHead(400, { "content-type": "application/json; charset=utf-8", "x-request-id": request.id })
        .end(JSON.stringify(errorBody("request_invalid", "The path is malformed.", request.id)));
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

export function errorBody(code: string, message: string, requestId: string) {
  return { error: { code, message, requestId } };
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
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
}

/** Compares without telling by its duration how much was right; the hashes make the lengths equal (F96). */
export function isSameSecret(given: string, expected: string): boolean {
  const hash = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(given), hash(expected));
}
