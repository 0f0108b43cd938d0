/** What the model counts for each call, beside what follows from its words. */
export type CountedCaches = { cacheReadTokens: number; cacheWriteTokens: number; cacheWriteHourTokens: number };

/** A tool that the model wants called, with what it is to be given. */
export type ToolCall = { tool: string; input: Record<string, unknown> };

export type Turn = CountedCaches & {
  id: string;
  model: string;
  /** Its words; none when it calls a tool. */
  pieces: string[];
  toolCall: ToolCall | undefined;
  /** Without those of caches. */
  inputTokens: number;
  outputTokens: number;
};
export type StreamEvent = { event?: string; data: unknown };

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

export const APIS: Record<string, Api> = {
  "/v1/chat/completions": { whole: chatCompletion, stream: chatChunks, unauthorized: OPENAI_UNAUTHORIZED },
  "/v1/responses": { whole: openAiResponse, stream: responseEvents, unauthorized: OPENAI_UNAUTHORIZED },
  "/v1/messages": {
    whole: anthropicMessage,
    stream: messageEvents,
    unauthorized: { type: "error", error: { type: "authentication_error", message: "invalid x-api-key" } },
  },
};

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
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
  const calls = turn.toolCall === undefined ? {} : { tool_calls: [functionCall(turn, turn.toolCall)] };
  const message = { role: "assistant", content: turn.pieces.join(""), ...calls };
  return {
    id: `chatcmpl-${turn.id}`,
    object: "chat.completion",
    created: 0,
    model: turn.model,
    choices: [{ index: 0, message, finish_reason: finishReason(turn) }],
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
    ...(turn.toolCall === undefined
      ? []
      : [chunk({ tool_calls: [{ index: 0, ...functionCall(turn, turn.toolCall) }] }, null)]),
    chunk({}, finishReason(turn)),
    ...(withUsage ? [{ data: { ...base, choices: [], usage: chatUsage(turn) } }] : []),
    { data: "[DONE]" },
  ];
}

function functionCall(turn: Turn, { tool, input }: ToolCall) {
  return { id: `call_${turn.id}`, type: "function", function: { name: tool, arguments: JSON.stringify(input) } };
}

function finishReason(turn: Turn): string {
  return turn.toolCall === undefined ? "stop" : "tool_calls";
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
    content: [
      turn.toolCall === undefined ? { type: "text", text: turn.pieces.join("") } : toolUse(turn, turn.toolCall),
    ],
    stop_reason: stopReason(turn),
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
    event("content_block_start", {
      index: 0,
      content_block:
        turn.toolCall === undefined ? { type: "text", text: "" } : { ...toolUse(turn, turn.toolCall), input: {} },
    }),
    ...contentDeltas(turn).map((delta) => event("content_block_delta", { index: 0, delta })),
    event("content_block_stop", { index: 0 }),
    event("message_delta", {
      delta: { stop_reason: stopReason(turn), stop_sequence: null },
      usage: { output_tokens: turn.outputTokens },
    }),
    event("message_stop", {}),
  ];
}

function contentDeltas({ pieces, toolCall }: Turn): unknown[] {
  return toolCall === undefined
    ? pieces.map((text) => ({ type: "text_delta", text }))
    : [{ type: "input_json_delta", partial_json: JSON.stringify(toolCall.input) }];
}

function toolUse(turn: Turn, { tool, input }: ToolCall) {
  return { type: "tool_use", id: `toolu_${turn.id}`, name: tool, input };
}

function stopReason(turn: Turn): string {
  return turn.toolCall === undefined ? "end_turn" : "tool_use";
}
