import { randomUUID } from "node:crypto";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { createRecording, readBody, sendJson, startLoopback } from "./loopback.ts";

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

/** What the model counts for each call, beside what follows from its words. */
export type CountedCaches = { cacheReadTokens: number; cacheWriteTokens: number; cacheWriteHourTokens: number };

type Turn = CountedCaches & {
  id: string;
  model: string;
  pieces: string[];
  /** Without those of caches. */
  inputTokens: number;
  outputTokens: number;
};
type StreamEvent = { event?: string; data: unknown };

/** One provider API: what it answers whole, and as a stream. */
type Api = {
  whole(turn: Turn): unknown;
  stream(turn: Turn, body: Record<string, unknown>): StreamEvent[];
  unauthorized: unknown;
};

const OPENAI_UNAUTHORIZED = {
  error: {
    message: "Incorrect API key provided.",
    type: "invalid_request_error",
    param: null,
    code: "invalid_api_key",
  },
};

const APIS: Record<string, Api> = {
  "/v1/chat/completions": { whole: chatCompletion, stream: chatChunks, unauthorized: OPENAI_UNAUTHORIZED },
  "/v1/responses": { whole: openAiResponse, stream: responseEvents, unauthorized: OPENAI_UNAUTHORIZED },
  "/v1/messages": {
    whole: anthropicMessage,
    stream: messageEvents,
    unauthorized: { type: "error", error: { type: "authentication_error", message: "invalid x-api-key" } },
  },
};

/**
 * A model on loopback that speaks OpenAI chat completions, OpenAI responses and Anthropic messages. It answers `reply(prompt)`, by default
 * an echo, where `prompt` is the last user message; tokens are counted as a quarter of the characters. `beforeEvent` is awaited before
 * each event of a stream, so that a test can hold it open.
 */
export async function startModelServer(
  options: {
    apiKey?: string;
    reply?: (prompt: string) => string;
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
  reply: (prompt: string) => string,
  caches: CountedCaches = NO_CACHES,
): Turn {
  const prompt = lastUserText(body["messages"] ?? body["input"]);
  const answer = reply(prompt);
  return {
    id: randomUUID(),
    model: typeof body["model"] === "string" ? body["model"] : "loopback",
    pieces: answer.match(/\S+\s*|\s+/g) ?? [],
    inputTokens: countTokens(JSON.stringify(body)),
    outputTokens: countTokens(answer),
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

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function lastUserText(messages: unknown): string {
  if (typeof messages === "string") return messages;
  if (!Array.isArray(messages)) return "";
  const last: unknown = messages.findLast((message) => isRecord(message) && message["role"] === "user");
  return isRecord(last) ? contentText(last["content"]) : "";
}

function contentText(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content
    .map((part: unknown) => (isRecord(part) && typeof part["text"] === "string" ? part["text"] : ""))
    .join("");
}

function chatUsage(turn: Turn): unknown {
  const prompt = promptTokens(turn);
  return {
    prompt_tokens: prompt,
    completion_tokens: turn.outputTokens,
    total_tokens: prompt + turn.outputTokens,
    prompt_tokens_details: { cached_tokens: turn.cacheReadTokens },
  };
}

/** As OpenAI counts: what came from a cache is part of it. */
function promptTokens({ inputTokens, cacheReadTokens, cacheWriteTokens }: Turn): number {
  return inputTokens + cacheReadTokens + cacheWriteTokens;
}

function messageUsage(turn: Turn, outputTokens: number): unknown {
  const { cacheWriteTokens, cacheWriteHourTokens } = turn;
  return {
    input_tokens: turn.inputTokens,
    cache_creation_input_tokens: cacheWriteTokens,
    cache_read_input_tokens: turn.cacheReadTokens,
    cache_creation: {
      ephemeral_5m_input_tokens: cacheWriteTokens - cacheWriteHourTokens,
      ephemeral_1h_input_tokens: cacheWriteHourTokens,
    },
    output_tokens: outputTokens,
  };
}

function chatCompletion(turn: Turn): unknown {
  const message = { role: "assistant", content: turn.pieces.join("") };
  return {
    id: `chatcmpl-${turn.id}`,
    object: "chat.completion",
    created: 0,
    model: turn.model,
    choices: [{ index: 0, message, finish_reason: "stop" }],
    usage: chatUsage(turn),
  };
}

function chatChunks(turn: Turn, body: Record<string, unknown>): StreamEvent[] {
  const base = { id: `chatcmpl-${turn.id}`, object: "chat.completion.chunk", created: 0, model: turn.model };
  const chunk = (delta: unknown, finishReason: string | null): StreamEvent => ({
    data: { ...base, choices: [{ index: 0, delta, finish_reason: finishReason }] },
  });
  const options = body["stream_options"];
  const withUsage = isRecord(options) && options["include_usage"] === true;
  return [
    chunk({ role: "assistant", content: "" }, null),
    ...turn.pieces.map((content) => chunk({ content }, null)),
    chunk({}, "stop"),
    ...(withUsage ? [{ data: { ...base, choices: [], usage: chatUsage(turn) } }] : []),
    { data: "[DONE]" },
  ];
}

function openAiResponse(turn: Turn): unknown {
  const content = [{ type: "output_text", text: turn.pieces.join(""), annotations: [] }];
  return {
    id: `resp_${turn.id}`,
    object: "response",
    created_at: 0,
    status: "completed",
    model: turn.model,
    output: [{ type: "message", id: `msg_${turn.id}`, role: "assistant", status: "completed", content }],
    usage: {
      input_tokens: promptTokens(turn),
      input_tokens_details: { cached_tokens: turn.cacheReadTokens },
      output_tokens: turn.outputTokens,
      total_tokens: promptTokens(turn) + turn.outputTokens,
    },
  };
}

function responseEvents(turn: Turn): StreamEvent[] {
  const event = (type: string, fields: Record<string, unknown>): StreamEvent => ({
    event: type,
    data: { type, ...fields },
  });
  const position = { item_id: `msg_${turn.id}`, output_index: 0, content_index: 0 };
  return [
    event("response.created", { response: { id: `resp_${turn.id}`, status: "in_progress", model: turn.model } }),
    ...turn.pieces.map((delta) => event("response.output_text.delta", { ...position, delta })),
    event("response.completed", { response: openAiResponse(turn) }),
  ];
}

function anthropicMessage(turn: Turn): unknown {
  return {
    id: `msg_${turn.id}`,
    type: "message",
    role: "assistant",
    model: turn.model,
    content: [{ type: "text", text: turn.pieces.join("") }],
    stop_reason: "end_turn",
    stop_sequence: null,
    usage: messageUsage(turn, turn.outputTokens),
  };
}

function messageEvents(turn: Turn): StreamEvent[] {
  const event = (type: string, fields: Record<string, unknown>): StreamEvent => ({
    event: type,
    data: { type, ...fields },
  });
  const message = {
    id: `msg_${turn.id}`,
    type: "message",
    role: "assistant",
    model: turn.model,
    content: [],
    stop_reason: null,
    usage: messageUsage(turn, 1),
  };
  return [
    event("message_start", { message }),
    event("content_block_start", { index: 0, content_block: { type: "text", text: "" } }),
    ...turn.pieces.map((text) => event("content_block_delta", { index: 0, delta: { type: "text_delta", text } })),
    event("content_block_stop", { index: 0 }),
    event("message_delta", {
      delta: { stop_reason: "end_turn", stop_sequence: null },
      usage: { output_tokens: turn.outputTokens },
    }),
    event("message_stop", {}),
  ];
}
