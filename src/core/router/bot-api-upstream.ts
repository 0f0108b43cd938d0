import { Pool } from "undici";
import type { Readable } from "node:stream";
import { type BotApiRequest, writeBotApiRequest } from "./bot-api-request.ts";

export type UpstreamReply = { status: number; headers: Record<string, string>; body: Buffer };
export type UpstreamFile = { status: number; headers: Record<string, string>; body: Readable };

/** The real Bot API, called with the real token. Both throw undici's errors when it can't be reached; redirects are not followed. */
export type BotApiUpstream = {
  call(method: string, request: BotApiRequest): Promise<UpstreamReply>;
  /** `path` as a reply of getFile gave it. */
  download(path: string): Promise<UpstreamFile>;
  close(): Promise<void>;
};

const FORWARDED_HEADERS = ["content-type", "content-length", "retry-after", "last-modified"];

export function createBotApiUpstream({ apiRoot, token }: { apiRoot: string; token: string }): BotApiUpstream {
  const root = new URL(apiRoot);
  const prefix = root.pathname.replace(/\/+$/, "");
  // The time for a reply counts from the end of the upload: Telegram takes a while over large media.
  const pool = new Pool(root.origin, { connections: 64, headersTimeout: 120_000, bodyTimeout: 60_000 });
  return {
    async call(method, request) {
      const { body, contentType } = await writeBotApiRequest(request);
      const reply = await pool.request({
        method: "POST",
        path: `${prefix}/bot${token}/${method}`,
        headers: { "content-type": contentType },
        body,
      });
      return {
        status: reply.statusCode,
        headers: pickHeaders(reply.headers),
        body: Buffer.from(await reply.body.arrayBuffer()),
      };
    },
    async download(path) {
      const escaped = path.split("/").map(encodeURIComponent).join("/");
      const reply = await pool.request({ method: "GET", path: `${prefix}/file/bot${token}/${escaped}` });
      return { status: reply.statusCode, headers: pickHeaders(reply.headers), body: reply.body };
    },
    close: () => pool.close(),
  };
}

function pickHeaders(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  const picked: Record<string, string> = {};
  for (const name of FORWARDED_HEADERS) {
    const value = headers[name];
    if (typeof value === "string") picked[name] = value;
  }
  return picked;
}
