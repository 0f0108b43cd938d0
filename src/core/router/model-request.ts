import { UsageError } from "../platform/errors.ts";
import type { ModelApi } from "./model-api.ts";

/** What a call's body says of what it may come to. */
export type ModelRequest = {
  body: Record<string, unknown>;
  model: string;
  /** For each answer, as asked for; undefined when the caller sets no limit. */
  outputTokens: number | undefined;
  /** How many answers are asked for. */
  answers: number;
  images: number;
  documents: number;
  /** Of the body: what stands in it for images, which count by the piece. */
  imageBytes: number;
};

type Sizes = { contextTokens: number; outputTokens: number; imageTokens: number };

/** For a caller that sets no limit: what the runtimes' own configuration asks for. */
const DEFAULT_OUTPUT_TOKENS = 8_192;
/** What a provider adds to a prompt by itself, such as how its kinds of tools are to be called. */
const OVERHEAD_TOKENS = 4_000;
const MAX_ANSWERS = 128;

/**
 * Fields that make a call cost what no token count or price of ours covers, run on without us, or reach into what other
 * tenants left at the provider under the operator's key.
 */
const NOT_OFFERED: Record<ModelApi["provider"], readonly string[]> = {
  anthropic: ["mcp_servers", "container", "speed", "inference_geo", "fallbacks"],
  openai: [
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
    "web_search_options",
    "audio",
    "prediction",
    "models",
    "plugins",
    "fallbacks",
  ],
};
const USUAL_SERVICE_TIERS = new Set<unknown>(["auto", "default", "standard_only"]);
/** What a conversation by OpenAI's responses is made of here; others belong to tools of the provider, or refer to what it keeps. */
const ITEMS = new Set<unknown>([
  "message",
  "reasoning",
  "function_call",
  "function_call_output",
  "custom_tool_call",
  "custom_tool_call_output",
]);
/** In the names of kinds of content that are no text. */
const SENSED = /image|video|audio|file|document/;
/** Tools that the caller carries out; all others are run, and charged for, by the provider. */
const OWN_TOOLS = /^(function|custom|(bash|text_editor|computer|memory)_\d{8})$/;

const OUTPUT_FIELDS: Record<ModelApi["route"], readonly [preferred: string, ...others: string[]]> = {
  "/v1/messages": ["max_tokens"],
  "/v1/chat/completions": ["max_completion_tokens", "max_tokens"],
  "/v1/responses": ["max_output_tokens"],
};

/**
 * Reads a call's body.
 * @throws UsageError for what is no call, and for what is not offered.
 */
export function readModelRequest(api: ModelApi, text: string): ModelRequest {
  const body = parseObject(text);
  const { model } = body;
  if (typeof model !== "string" || model === "") throw bad("model must be the name of a model");
  refuseWhatIsNotOffered(api, body);
  const media = [...contentBlocks(body)].map(measureBlock);
  return {
    body,
    model,
    outputTokens: readLimits(api, body),
    answers: api.route === "/v1/chat/completions" ? readCount(body, "n", MAX_ANSWERS) : 1,
    images: media.filter(({ kind }) => kind === "image").length,
    documents: media.filter(({ kind }) => kind === "document").length,
    imageBytes: media.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

/**
 * The most tokens that a call can come to, with so many `bytes` sent. A token stands for a byte at least, whatever the
 * tokenizer, and a prompt is never longer than the model's context: which is what a document or a recording is taken for, since
 * what is in it can't be told from its size.
 */
export function boundRequest(
  request: ModelRequest,
  bytes: number,
  { contextTokens, outputTokens, imageTokens }: Sizes,
): { inputTokens: number; outputTokens: number } {
  const prompt = Math.max(0, bytes - request.imageBytes) + request.images * imageTokens + OVERHEAD_TOKENS;
  return {
    inputTokens: request.documents > 0 ? contextTokens : Math.min(prompt, contextTokens),
    outputTokens: limitOf(request, outputTokens) * request.answers,
  };
}

/** How long each answer may be. */
function limitOf({ outputTokens }: ModelRequest, most: number): number {
  return Math.min(outputTokens ?? DEFAULT_OUTPUT_TOKENS, most);
}

/**
 * The body as it is sent on: with a limit on each answer, of `most` tokens, with usage asked for, and with nothing left behind
 * at the provider. Written anew, so that it says one thing only.
 */
export function writeModelRequest(api: ModelApi, request: ModelRequest, most: number): string {
  const { body } = request;
  const [preferred, ...others] = OUTPUT_FIELDS[api.route];
  const given = [preferred, ...others].filter((field) => isGiven(body[field]));
  const limit = limitOf(request, most);
  const limits = Object.fromEntries((given.length === 0 ? [preferred] : given).map((field) => [field, limit]));
  const store = api.route === "/v1/responses" ? { store: false } : {};
  return JSON.stringify({ ...body, ...limits, ...store, ...usageWish(api, body) });
}

/** Whether the caller wants to see the usage of a stream itself, for which OpenAI's chat completions have to be asked. */
export function wantsUsage({ body }: ModelRequest): boolean {
  return isRecord(body["stream_options"]) && body["stream_options"]["include_usage"] === true;
}

function usageWish(api: ModelApi, body: Record<string, unknown>): Record<string, unknown> {
  if (api.route !== "/v1/chat/completions" || body["stream"] !== true) return {};
  const options = isRecord(body["stream_options"]) ? body["stream_options"] : {};
  return { stream_options: { ...options, include_usage: true } };
}

function refuseWhatIsNotOffered({ provider }: ModelApi, body: Record<string, unknown>): void {
  for (const field of NOT_OFFERED[provider]) if (isGiven(body[field])) throw notOffered(field);
  const { service_tier: serviceTier, modalities, tools } = body;
  if (isGiven(serviceTier) && !USUAL_SERVICE_TIERS.has(serviceTier))
    throw notOffered(`service_tier ${show(serviceTier)}`);
  if (Array.isArray(modalities) && modalities.some((one) => one !== "text"))
    throw notOffered(`modalities ${show(modalities)}`);
  for (const { type } of recordsIn(body["input"]))
    if (isGiven(type) && !ITEMS.has(type)) throw notOffered(`the item ${show(type)}`);
  // Compacting a conversation is a call within the call.
  const { edits } = isRecord(body["context_management"]) ? body["context_management"] : {};
  if (recordsIn(edits).some((edit) => String(edit["type"]).startsWith("compact"))) throw notOffered("compaction");
  for (const tool of Array.isArray(tools) ? tools : []) {
    const type: unknown = isRecord(tool) ? tool["type"] : undefined;
    if (isGiven(type) && !OWN_TOOLS.test(String(type))) throw notOffered(`the tool ${show(type)}`);
  }
}

function readLimits(api: ModelApi, body: Record<string, unknown>): number | undefined {
  const limits = OUTPUT_FIELDS[api.route].flatMap((field) =>
    isGiven(body[field]) ? [readCount(body, field, Number.MAX_SAFE_INTEGER)] : [],
  );
  return limits.length === 0 ? undefined : Math.min(...limits);
}

function readCount(body: Record<string, unknown>, field: string, max: number): number {
  const value = body[field] ?? 1;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 1 && value <= max) return value;
  throw bad(`${field} must be a whole number from 1 on`);
}

/**
 * The blocks in which an API takes images and documents, those within others included; the same words elsewhere, as in what
 * a tool is given, are text.
 */
function* contentBlocks(body: Record<string, unknown>): Generator<Record<string, unknown>> {
  for (const message of [...recordsIn(body["messages"]), ...recordsIn(body["input"])]) {
    for (const part of [message["content"], message["output"]]) yield* blocksIn(part);
  }
}

function* blocksIn(part: unknown): Generator<Record<string, unknown>> {
  for (const block of isRecord(part) ? [part] : recordsIn(part)) {
    yield block;
    yield* blocksIn(block["content"]);
    if (isRecord(block["source"])) yield* blocksIn(block["source"]["content"]);
  }
}

/** `bytes` are those that stand for an image; what isn't counted otherwise is text. */
type Media = { kind: "image" | "document" | "text"; bytes: number };

const TEXT: Media = { kind: "text", bytes: 0 };
const DOCUMENT: Media = { kind: "document", bytes: 0 };

function measureBlock(block: Record<string, unknown>): Media {
  const parts = [block, block["source"], block["file"], block["image_url"]].filter(isRecord);
  if (parts.some((part) => isGiven(part["file_id"]))) throw notOffered("a file kept at the provider");
  const source = isRecord(block["source"]) ? block["source"] : {};
  switch (block["type"]) {
    case "image":
      return { kind: "image", bytes: sizeOf(source["data"]) };
    case "image_url":
    case "input_image":
    case "computer_screenshot": {
      const image = block["image_url"];
      return { kind: "image", bytes: sizeOf(isRecord(image) ? image["url"] : image) };
    }
    case "document":
      // What is text, or blocks, counts by its length.
      return source["type"] === "text" || source["type"] === "content" ? TEXT : DOCUMENT;
    default:
      return SENSED.test(String(block["type"])) ? DOCUMENT : TEXT;
  }
}

function sizeOf(data: unknown): number {
  return typeof data === "string" ? Buffer.byteLength(data) : 0;
}

function parseObject(text: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw bad("The body is not JSON");
  }
  if (!isRecord(parsed)) throw bad("The body must be a JSON object");
  return parsed;
}

function recordsIn(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false;
}

function show(value: unknown): string {
  return JSON.stringify(value).slice(0, 100);
}

function bad(message: string): UsageError {
  return new UsageError("invalid_request", message);
}

function notOffered(what: string): UsageError {
  return new UsageError("not_offered", `This service does not offer ${what}`);
}
