import type { CallEnd, TokenUsage } from "../billing/billing.ts";
import type { ModelApi } from "./model-api.ts";

/** Gathers what a provider says of one call's usage, as its answer passes by. */
export type UsageReader = {
  /** Bytes of which one stands in every event that tells anything. */
  marks: readonly Buffer[];
  /** Of a whole answer, or of one event of a stream. */
  read(data: unknown): void;
  /** What the call has come to, now that its answer is complete or broken off. */
  end(): CallEnd;
};

type Fields = Record<string, unknown>;

/** The end of OpenAI's chat streams, which is no JSON. */
export const DONE = "[DONE]";

const USAGE_MARKS = [Buffer.from('"usage"')];
const CHAT_MARKS = [...USAGE_MARKS, Buffer.from(DONE)];

/** @param isStream whether events are read, of which only the last ones tell all. */
export function createUsageReader(api: ModelApi, isStream: boolean): UsageReader {
  switch (api.route) {
    case "/v1/messages":
      return isStream ? readMessageEvents() : readWhole(fromAnthropic);
    case "/v1/chat/completions":
      return isStream ? readChatChunks() : readWhole(fromChat);
    case "/v1/responses":
      return isStream ? readResponseEvents() : readWhole(fromResponses);
  }
}

function readWhole(read: (usage: Fields) => TokenUsage | undefined): UsageReader {
  let usage: TokenUsage | undefined;
  return {
    marks: USAGE_MARKS,
    read(data) {
      usage = read(fieldsOf(fieldsOf(data)["usage"]));
    },
    end: () => measured(usage),
  };
}

/** The prompt's usage comes first; the answer's is told while it grows, and is final with the reason to stop. */
function readMessageEvents(): UsageReader {
  let told: Fields = {};
  let prompt: TokenUsage | undefined;
  let isFinal = false;
  return {
    marks: USAGE_MARKS,
    read(data) {
      const event = fieldsOf(data);
      if (event["type"] === "message_start") {
        told = fieldsOf(fieldsOf(event["message"])["usage"]);
        prompt = fromAnthropic(told);
      } else if (event["type"] === "message_delta") {
        told = { ...told, ...defined(fieldsOf(event["usage"])) };
        if (typeof fieldsOf(event["delta"])["stop_reason"] === "string") isFinal = true;
      }
    },
    end() {
      if (isFinal) return measured(fromAnthropic(told));
      return prompt === undefined ? { kind: "unknown" } : { kind: "unknown", prompt: { ...prompt, outputTokens: 0 } };
    },
  };
}

/** Usage stands in a chunk of its own at the end; some providers repeat it in every chunk, where only the last one counts. */
function readChatChunks(): UsageReader {
  let usage: TokenUsage | undefined;
  let isFinal = false;
  return {
    marks: CHAT_MARKS,
    read(data) {
      if (data === DONE) isFinal = true;
      const chunk = fieldsOf(data);
      usage = fromChat(fieldsOf(chunk["usage"])) ?? usage;
      if (isUsageChunk(chunk)) isFinal = true;
    },
    end: () => (isFinal ? measured(usage) : { kind: "unknown" }),
  };
}

/** Whether a chunk of a chat is there for its usage alone. */
export function isUsageChunk(data: unknown): boolean {
  const { choices, usage } = fieldsOf(data);
  return Array.isArray(choices) && choices.length === 0 && isRecord(usage);
}

function readResponseEvents(): UsageReader {
  let usage: TokenUsage | undefined;
  return {
    marks: USAGE_MARKS,
    read(data) {
      const event = fieldsOf(data);
      if (/^response\.(completed|incomplete|failed)$/.test(String(event["type"])))
        usage = fromResponses(fieldsOf(fieldsOf(event["response"])["usage"]));
    },
    end: () => measured(usage),
  };
}

function measured(usage: TokenUsage | undefined): CallEnd {
  return usage === undefined ? { kind: "unknown" } : { kind: "measured", usage };
}

/** `input_tokens` leaves caches out. What compaction took is told in `iterations` only, beside the rest. */
function fromAnthropic(usage: Fields): TokenUsage | undefined {
  const { iterations } = usage;
  const parts = Array.isArray(iterations) && iterations.length > 0 ? iterations.map(fieldsOf) : [usage];
  const read = parts.map(fromAnthropicPart);
  return read.every((part) => part !== undefined) ? read.reduce(addUsage) : undefined;
}

function fromAnthropicPart(usage: Fields): TokenUsage | undefined {
  const inputTokens = count(usage["input_tokens"]);
  const outputTokens = count(usage["output_tokens"]);
  if (inputTokens === undefined || outputTokens === undefined) return undefined;
  const cacheWriteTokens = count(usage["cache_creation_input_tokens"]) ?? 0;
  const hour = count(fieldsOf(usage["cache_creation"])["ephemeral_1h_input_tokens"]) ?? 0;
  return {
    inputTokens,
    outputTokens,
    cacheReadTokens: count(usage["cache_read_input_tokens"]) ?? 0,
    cacheWriteTokens,
    cacheWriteHourTokens: Math.min(hour, cacheWriteTokens),
  };
}

function addUsage(one: TokenUsage, other: TokenUsage): TokenUsage {
  return {
    inputTokens: one.inputTokens + other.inputTokens,
    outputTokens: one.outputTokens + other.outputTokens,
    cacheReadTokens: one.cacheReadTokens + other.cacheReadTokens,
    cacheWriteTokens: one.cacheWriteTokens + other.cacheWriteTokens,
    cacheWriteHourTokens: one.cacheWriteHourTokens + other.cacheWriteHourTokens,
  };
}

function fromChat(usage: Fields): TokenUsage | undefined {
  return fromOpenAi(usage["prompt_tokens"], usage["completion_tokens"], fieldsOf(usage["prompt_tokens_details"]));
}

function fromResponses(usage: Fields): TokenUsage | undefined {
  return fromOpenAi(usage["input_tokens"], usage["output_tokens"], fieldsOf(usage["input_tokens_details"]));
}

/** OpenAI counts what came from a cache, or went to one, into the prompt, and reasoning into the answer. */
function fromOpenAi(prompt: unknown, answer: unknown, details: Fields): TokenUsage | undefined {
  const promptTokens = count(prompt);
  const outputTokens = count(answer);
  if (promptTokens === undefined || outputTokens === undefined) return undefined;
  const cacheReadTokens = Math.min(count(details["cached_tokens"]) ?? 0, promptTokens);
  const cacheWriteTokens = Math.min(count(details["cache_write_tokens"]) ?? 0, promptTokens - cacheReadTokens);
  return {
    inputTokens: promptTokens - cacheReadTokens - cacheWriteTokens,
    outputTokens,
    cacheReadTokens,
    cacheWriteTokens,
    cacheWriteHourTokens: 0,
  };
}

function count(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

/** A later event's null says nothing. */
function defined(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));
}

function fieldsOf(value: unknown): Fields {
  return isRecord(value) ? value : {};
}

function isRecord(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
