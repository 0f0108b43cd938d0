import { randomUUID } from "node:crypto";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { createRecording, readBody, sendJson, startLoopback } from "./loopback.ts";
import { APIS, type CountedCaches, isRecord, type StreamEvent, type ToolCall, type Turn } from "./model-shapes.ts";

export type ModelCall = {
  path: string;
  /** The key presented, as `Authorization: Bearer` or `x-api-key`. */
  key: string | undefined;
  headers: IncomingHttpHeaders;
  body: Record<string, unknown>;
  /** Settles when the response has been sent whole, or the other side hung up before that. */
  outcome: Promise<"completed" | "aborted">;
};

export type ModelServer = {
  /** Without `/v1`. */
  url: string;
  calls: ModelCall[];
  waitFor(accepts: (call: ModelCall) => boolean, timeoutMs?: number): Promise<ModelCall>;
  /** The next call gets this reply; several queue up. */
  failNext(reply: { status: number; body: unknown; headers?: Record<string, string> }): void;
  close(): Promise<void>;
};

/**
 * A model on loopback that speaks OpenAI chat completions, OpenAI responses and Anthropic messages. It answers `reply(prompt, body)`, by
 * default an echo, where `prompt` is the last user message, or what the last tool brought, and `body` the whole request; tokens are counted
 * as a quarter of the characters. `beforeEvent` is awaited before each event of a stream, so that a test can hold it open.
 */
export async function startModelServer(
  options: {
    apiKey?: string;
    /** Tools are called over chat completions and messages only. */
    reply?: (prompt: string, body: Record<string, unknown>) => string | ToolCall;
    beforeEvent?: (index: number) => Promise<void>;
    caches?: CountedCaches;
  } = {},
): Promise<ModelServer> {
  const reply = options.reply ?? ((prompt: string) => `You said: ${prompt}`);
  const recording = createRecording<ModelCall>();
  const failures: { status: number; body: unknown; headers?: Record<string, string> }[] = [];

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? "/", "http://loopback").pathname;
    const api = APIS[path];
    if (api === undefined) return sendJson(response, 404, { error: { message: `Unknown path ${path}` } });
    const key = presentedKey(request.headers);
    const body: Record<string, unknown> = JSON.parse((await readBody(request)).toString());
    const outcome = new Promise<"completed" | "aborted">((resolve) => {
      response.once("close", () => resolve(response.writableFinished ? "completed" : "aborted"));
    });
    recording.add({ path, key, headers: request.headers, body, outcome });

    if (options.apiKey !== undefined && key !== options.apiKey) return sendJson(response, 401, api.unauthorized);
    const failure = failures.shift();
    if (failure !== undefined) return sendJson(response, failure.status, failure.body, failure.headers);
    const turn = takeTurn(body, reply, options.caches);
    if (body["stream"] !== true) return sendJson(response, 200, api.whole(turn), { "request-id": turn.id });
    await sendEvents(response, api.stream(turn, body), options.beforeEvent);
  }

  const server = await startLoopback(handle);
  return {
    url: server.url,
    calls: recording.entries,
    waitFor: recording.waitFor,
    failNext: (failure) => void failures.push(failure),
    close: server.close,
  };
}

async function sendEvents(
  response: ServerResponse,
  events: StreamEvent[],
  beforeEvent: ((index: number) => Promise<void>) | undefined,
): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  for (const [index, { event, data }] of events.entries()) {
    await beforeEvent?.(index);
    if (response.destroyed) return;
    const line = typeof data === "string" ? data : JSON.stringify(data);
    response.write(`${event === undefined ? "" : `event: ${event}\n`}data: ${line}\n\n`);
  }
  response.end();
}

const NO_CACHES: CountedCaches = { cacheReadTokens: 0, cacheWriteTokens: 0, cacheWriteHourTokens: 0 };

function takeTurn(
  body: Record<string, unknown>,
  reply: (prompt: string, body: Record<string, unknown>) => string | ToolCall,
  caches: CountedCaches = NO_CACHES,
): Turn {
  const prompt = lastUserText(body["messages"] ?? body["input"]);
  const answer = reply(prompt, body);
  return {
    id: randomUUID(),
    model: typeof body["model"] === "string" ? body["model"] : "loopback",
    pieces: typeof answer === "string" ? (answer.match(/\S+\s*|\s+/g) ?? []) : [],
    toolCall: typeof answer === "string" ? undefined : answer,
    inputTokens: countTokens(JSON.stringify(body)),
    outputTokens: countTokens(typeof answer === "string" ? answer : JSON.stringify(answer.input)),
    ...caches,
  };
}

function countTokens(text: string): number {
  return Math.ceil(text.length / 4);
}

function presentedKey(headers: IncomingHttpHeaders): string | undefined {
  const apiKey = headers["x-api-key"];
  return typeof apiKey === "string" ? apiKey : headers.authorization?.replace(/^Bearer /i, "");
}

function lastUserText(messages: unknown): string {
  if (typeof messages === "string") return messages;
  if (!Array.isArray(messages)) return "";
  const last: unknown = messages.findLast(
    (message) => isRecord(message) && (message["role"] === "user" || message["role"] === "tool"),
  );
  return isRecord(last) ? contentText(last["content"]) : "";
}

function contentText(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part: unknown) => (isRecord(part) ? partText(part) : "")).join("");
}

function partText(part: Record<string, unknown>): string {
  if (part["type"] === "tool_result") return contentText(part["content"]);
  return typeof part["text"] === "string" ? part["text"] : "";
}
