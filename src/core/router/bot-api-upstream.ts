import type { Readable } from "node:stream";
import { Pool } from "undici";
import { UpstreamError, UsageError } from "../platform/errors.ts";
import { exchange } from "../platform/exchange.ts";
import { type BotApiRequest, writeBotApiRequest } from "./bot-api-request.ts";

/** What Telegram said, in its own shape. */
export type UpstreamReply = { status: number; headers: Record<string, string>; body: Buffer };
export type UpstreamFile = { status: number; headers: Record<string, string>; body: Readable };

/**
 * The real Bot API, called with the real token. Redirects are not followed. Both throw UpstreamError when there is no answer, or none of
 * Telegram's, and what a request's files throw.
 */
export type BotApiUpstream = {
  call(method: string, request: BotApiRequest, signal?: AbortSignal): Promise<UpstreamReply>;
  /** `path` as a reply of getFile gave it. */
  download(path: string, signal?: AbortSignal): Promise<UpstreamFile>;
  close(): Promise<void>;
};

const REPLY_HEADERS = ["content-type", "retry-after"];
const FILE_HEADERS = ["content-type", "content-length", "last-modified"];
/** Shorter than Telegram keeps idle connections, so that no call is sent on one that is being closed. */
const KEEP_ALIVE_MS = 15_000;
/**
 * The time for a reply counts from the last byte of an upload that got through: Telegram takes a while over large media, and a
 * long upload that goes on is not late.
 */
const REPLY_MS = 120_000;

export function createBotApiUpstream({ apiRoot, token }: { apiRoot: string; token: string }): BotApiUpstream {
  const root = new URL(apiRoot);
  const prefix = root.pathname.replace(/\/+$/, "");
  const options = {
    connect: { timeout: 10_000 },
    headersTimeout: REPLY_MS,
    bodyTimeout: 60_000,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS,
  };
  const pool = new Pool(root.origin, { ...options, connections: 64 });
  // Of their own: one that nobody reads must not take a message's connection.
  const files = new Pool(root.origin, { ...options, connections: 32 });
  return {
    async call(method, request, signal) {
      const { body, contentType } = writeBotApiRequest(request);
      const path = `${prefix}/bot${token}/${method}`;
      const post = { method: "POST" as const, path, headers: { "content-type": contentType }, body };
      const reply = await exchange(pool, post, signal).catch(explainFailure);
      const answered = { ...reply, headers: pickHeaders(reply.headers, REPLY_HEADERS) };
      requireTelegrams(answered);
      return answered;
    },
    async download(path, signal) {
      const escaped = path.split("/").map(encodeURIComponent).join("/");
      const reply = await files
        .request({ method: "GET", path: `${prefix}/file/bot${token}/${escaped}`, signal: signal ?? null })
        .catch(explainFailure);
      const { statusCode: status, body } = reply;
      if (status === 200) return { status, headers: pickHeaders(reply.headers, FILE_HEADERS), body };
      await body.dump().catch(explainFailure);
      throw status === 404 ? notFound() : notTelegrams(status);
    },
    close: async () => void (await Promise.all([pool.close(), files.close()])),
  };
}

/** What goes wrong between us and Telegram is one failure, which a runtime may retry; what is wrong with an upload is the caller's. */
function explainFailure(cause: unknown): never {
  if (cause instanceof UsageError) throw cause;
  throw new UpstreamError("telegram-unreachable", "Telegram can't be reached", {
    service: "telegram",
    retryable: true,
    cause,
  });
}

/** A proxy in between may answer pages and redirects, and a refused token is the bot's, not the caller's: none of that is passed on. */
function requireTelegrams({ status, headers, body }: UpstreamReply): void {
  const isJson = headers["content-type"]?.includes("json") === true && body[0] === 0x7b;
  const isRedirect = status >= 300 && status < 400;
  if (!isJson || isRedirect || status === 401) throw notTelegrams(status);
}

function notTelegrams(status: number): UpstreamError {
  return new UpstreamError("telegram-unusable", `Telegram gave no usable answer (status ${status})`, {
    service: "telegram",
    retryable: true,
  });
}

function notFound(): UpstreamError {
  return new UpstreamError("telegram-file-gone", "Telegram has no such file any more", {
    service: "telegram",
    retryable: false,
  });
}

function pickHeaders(
  headers: Record<string, string | string[] | undefined>,
  names: readonly string[],
): Record<string, string> {
  const picked: Record<string, string> = {};
  for (const name of names) {
    const value = headers[name];
    if (typeof value === "string") picked[name] = value;
  }
  return picked;
}
