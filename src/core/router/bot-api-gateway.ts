import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Clock } from "../platform/clock.ts";
import { assertNever, UpstreamError, UsageError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { type BotApiCallDeps, createBotApiCaller, TRANSFER_RETRY_SECONDS } from "./bot-api-call.ts";
import { cacheIdentity } from "./bot-api-identity.ts";
import { type BotApiMethod, findBotApiMethod, fixedResult } from "./bot-api-methods.ts";
import { readBotApiRequest } from "./bot-api-request.ts";
import { type BotApiUpstream, createBotApiUpstream, type UpstreamReply } from "./bot-api-upstream.ts";
import type { RuntimeAuth } from "./runtime-auth.ts";
import { createTransferPlaces } from "./transfer-places.ts";

export type BotApiGatewayDeps = BotApiCallDeps & {
  auth: RuntimeAuth;
  clock: Clock;
  log: Log;
  /** The real bot; while there is none, what needs no bot is answered all the same, so that runtimes can start (F4). */
  telegram: { apiRoot: string; token: string } | undefined;
};

export type BotApiGateway = {
  /** Whether the request is for this gateway, well-formed or not. */
  matches(request: IncomingMessage): boolean;
  serve(request: IncomingMessage, response: ServerResponse): void;
  close(): Promise<void>;
};

type Address = { tenantId: string; isFile: boolean; token: string; rest: string; query: string };
type Headers = Record<string, string | number>;
type Answer = { status: number; headers: Headers; body: string | Readable };
/** What every line about a call says: the route's template and never the URL, which holds a token (F90). */
type About = { requestId: string; route: string };
/** A call under way. */
type Exchange = { request: IncomingMessage; response: ServerResponse; tenantId: TenantId; about: About };

/** How long a runtime may leave a file's bytes unread. */
const SILENCE_MS = 60_000;
const JSON_TYPE = { "content-type": "application/json; charset=utf-8" };
const ROUTE = "/runtime/:tenantId/telegram/*";
const PREFIX = /^\/runtime\/[^/]*\/telegram\//;
const ADDRESS = /^\/runtime\/([^/?]+)\/telegram\/(file\/)?bot([^/?]+)\/([^?]+)(?:\?(.*))?$/s;
const NO_BOT: BotApiUpstream = { call: refuseWithoutBot, download: refuseWithoutBot, close: async () => undefined };

async function refuseWithoutBot(): Promise<never> {
  throw new UpstreamError("telegram-not-configured", "no bot is configured", { service: "telegram", retryable: true });
}

/**
 * `/runtime/<tenant-id>/telegram/bot<token>/<method>` and `/file/bot<token>/<path>`: the Bot API as one tenant may use it,
 * with the tenant's own token. A caller is authenticated before its body is read. Every refusal has Telegram's own shape.
 * Whatever runtimes say goes through here, so it is served by node:http alone: with a framework it took half as long again.
 */
export function createBotApiGateway(deps: BotApiGatewayDeps): BotApiGateway {
  const upstream = deps.telegram === undefined ? NO_BOT : createBotApiUpstream(deps.telegram);
  const call = createBotApiCaller(deps, upstream.call);
  const downloads = createTransferPlaces();
  const getMe = cacheIdentity(deps.clock, () => askIdentity(upstream));

  async function answerTo(request: IncomingMessage, response: ServerResponse, about: About): Promise<Answer> {
    const address = readAddress(request.url ?? "");
    if (address === "malformed") return refusal(400, "Bad Request: the path is malformed");
    const tenantId = address && (await deps.auth.authenticate(address.tenantId, "telegram-token", address.token));
    // The rest of the body is not waited for: the connection ends with the refusal.
    if (address === undefined || tenantId === undefined) return refusal(401, "Unauthorized", { connection: "close" });
    const exchange = { request, response, tenantId, about };
    return await (address.isFile ? fetchFile(exchange, address.rest) : answer(exchange, address));
  }

  function answer(exchange: Exchange, { rest, query }: Address): Answer | Promise<Answer> {
    const { tenantId, about } = exchange;
    const method = findBotApiMethod(rest);
    if (method === undefined) return refusal(403, "Forbidden: the method is unknown to this gateway");
    switch (method.rule) {
      case "absorb":
        return json(200, { ok: true, result: true });
      case "fixed":
        return json(200, { ok: true, result: fixedResult(method.name) });
      case "getMe":
        return getMe().then(toAnswer);
      case "conflict":
        return refusal(409, "Conflict: updates arrive by webhook here; getUpdates is not available");
      case "refuse":
        deps.log.info({ ...about, tenantId, method: method.name }, "Bot API method refused");
        return refusal(403, `Forbidden: ${method.name} is not available here`);
      case "pass":
        return forward(exchange, method, query);
      default:
        return assertNever(method);
    }
  }

  async function forward(
    { request, response, tenantId, about }: Exchange,
    method: Extract<BotApiMethod, { rule: "pass" }>,
    query: string,
  ): Promise<Answer> {
    const contentType = request.headers["content-type"];
    const content = await readBotApiRequest({ query, contentType, body: hasBody(request) ? request : undefined });
    try {
      const outcome = await call({
        tenantId,
        method,
        request: content,
        signal: untilClientLeaves(response),
        onUnlearnt: (error) =>
          deps.log.error({ ...about, tenantId, error }, "a reply of Telegram's was not learnt from"),
      });
      switch (outcome.kind) {
        case "answered":
          return toAnswer(outcome.reply);
        case "shed":
          return json(200, { ok: true, result: true });
        case "incomplete":
          return refusal(400, `Bad Request: ${outcome.field} is empty`);
        case "foreign":
          deps.log.warn(
            { ...about, tenantId, method: method.name, field: outcome.field },
            "Bot API call names something that is not the tenant's",
          );
          return refusal(403, `Forbidden: ${outcome.field} does not belong to this bot's chat`);
        case "too-many":
          return refusalForNow(outcome.retryAfterSeconds);
        default:
          return assertNever(outcome);
      }
    } finally {
      content.upload?.discard();
    }
  }

  async function fetchFile({ tenantId, response }: Exchange, path: string): Promise<Answer> {
    const isPlain = path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
    if (!isPlain || !(await deps.ownsId(tenantId, "file-path", path))) return refusal(404, "Not Found");
    const leave = downloads.enter(tenantId);
    if (leave === undefined) return refusalForNow(TRANSFER_RETRY_SECONDS);
    response.once("close", leave);
    // Who doesn't read on is cut off.
    response.setTimeout(SILENCE_MS, () => response.destroy());
    return upstream.download(path, untilClientLeaves(response));
  }

  function explain(error: unknown, request: IncomingMessage, response: ServerResponse, about: About): Answer {
    // What the caller still sends is let through to nowhere, so that it gets to read the answer.
    request.resume();
    if (response.destroyed) {
      deps.log.info(about, "Bot API call given up by its caller");
      return refusal(400, "Bad Request: the call was given up");
    }
    if (error instanceof UsageError) {
      return error.code === "too-large"
        ? refusal(413, error.message, { connection: "close" })
        : refusal(400, `Bad Request: ${error.message}`);
    }
    if (error instanceof UpstreamError) {
      deps.log.warn({ ...about, error }, "Bot API call failed");
      if (error.code === "telegram-file-gone") return refusal(404, "Not Found");
      return refusal(502, `Bad Gateway: ${error.message}`);
    }
    deps.log.error({ ...about, error }, "Bot API gateway failed");
    return refusal(500, "Internal Server Error");
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const requestId = randomUUID();
    const about = { requestId, route: ROUTE };
    const { status, headers, body } = await answerTo(request, response, about).catch((error: unknown) =>
      explain(error, request, response, about),
    );
    if (typeof body === "string") {
      const length = Buffer.byteLength(body);
      // One write with the head; a buffer would be a second.
      response.writeHead(status, { ...headers, "content-length": length, "x-request-id": requestId }).end(body);
      return;
    }
    response.writeHead(status, { ...headers, "x-request-id": requestId });
    await pipeline(body, response).catch((error: unknown) => {
      // The head has left: all that can still be said is that the file is not whole.
      deps.log.warn({ ...about, error }, "a file of Telegram's broke off");
      response.destroy();
    });
  }

  return {
    matches: (request) => PREFIX.test(request.url ?? ""),
    serve: (request, response) => void serve(request, response),
    close: () => upstream.close(),
  };
}

/** Undefined for a path that leads nowhere. */
function readAddress(url: string): Address | "malformed" | undefined {
  const [, tenantId = "", file, token = "", rest = "", query = ""] = ADDRESS.exec(url) ?? [];
  if (rest === "") return isDecodable(url) ? undefined : "malformed";
  try {
    return {
      tenantId: decodeURIComponent(tenantId),
      isFile: file !== undefined,
      token: decodeURIComponent(token),
      rest: decodeURIComponent(rest),
      query,
    };
  } catch (error) {
    if (error instanceof URIError) return "malformed";
    throw error;
  }
}

function isDecodable(url: string): boolean {
  try {
    return decodeURIComponent(url) !== "";
  } catch (error) {
    if (error instanceof URIError) return false;
    throw error;
  }
}

function hasBody({ method, headers }: IncomingMessage): boolean {
  const isAnnounced = headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
  return isAnnounced && method !== "GET" && method !== "HEAD";
}

/** Aborts when the caller hangs up before it has its answer: what it no longer waits for is not worth going on with. */
function untilClientLeaves(response: ServerResponse): AbortSignal {
  const left = new AbortController();
  response.once("close", () => {
    if (!response.writableFinished) left.abort();
  });
  return left.signal;
}

async function askIdentity(upstream: BotApiUpstream): Promise<UpstreamReply> {
  const reply = await upstream.call("getMe", { params: new Map(), upload: undefined });
  if (reply.status === 200) return reply;
  throw new UpstreamError("telegram-refused", `Telegram answered getMe with ${reply.status}`, {
    service: "telegram",
    retryable: true,
  });
}

/** The text has a length of its own here: what was not UTF-8 is not passed on byte by byte. */
function toAnswer({ status, headers, body }: UpstreamReply): Answer {
  return { status, headers, body: body.toString() };
}

function json(status: number, content: object, headers: Headers = {}): Answer {
  return { status, headers: { ...JSON_TYPE, ...headers }, body: JSON.stringify(content) };
}

function refusal(status: number, description: string, headers?: Headers): Answer {
  return json(status, { ok: false, error_code: status, description }, headers);
}

function refusalForNow(retryAfterSeconds: number): Answer {
  const description = `Too Many Requests: retry after ${retryAfterSeconds}`;
  const parameters = { retry_after: retryAfterSeconds };
  return json(429, { ok: false, error_code: 429, description, parameters }, { "retry-after": retryAfterSeconds });
}
