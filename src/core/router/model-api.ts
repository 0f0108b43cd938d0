export type ModelProvider = "anthropic" | "openai";

/** One API that the model gateway serves. */
export type ModelApi = {
  route: "/v1/messages" | "/v1/chat/completions" | "/v1/responses";
  provider: ModelProvider;
};

export const MODEL_APIS: readonly ModelApi[] = [
  { route: "/v1/messages", provider: "anthropic" },
  { route: "/v1/chat/completions", provider: "openai" },
  { route: "/v1/responses", provider: "openai" },
];

/** An error body as `provider` writes it, so that its SDK raises what it always raises. */
export function modelError(provider: ModelProvider, status: number, code: string, message: string): unknown {
  return provider === "anthropic"
    ? { type: "error", error: { type: anthropicType(status), message } }
    : { error: { message, type: openAiType(status), param: null, code } };
}

/** Whether `text` is an error as `provider` itself writes it. */
export function isProviderError(provider: ModelProvider, text: string): boolean {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body !== "object" || body === null || !("error" in body)) return false;
    const { error } = body;
    if (typeof error !== "object" || error === null || !("message" in error)) return false;
    return provider === "openai" || ("type" in body && body.type === "error");
  } catch {
    return false;
  }
}

function anthropicType(status: number): string {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

function openAiType(status: number): string {
  if (status === 429) return "insufficient_quota";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

const REQUEST_HEADERS = /^(content-type|accept|user-agent|anthropic-(version|beta)|openai-beta|x-stainless-.+)$/;
const RESPONSE_HEADERS =
  /^(content-type|content-length|cache-control|request-id|x-request-id|retry-after|retry-after-ms|x-should-retry|anthropic-ratelimit-.+|x-ratelimit-.+|openai-(model|processing-ms|version))$/;

type Headers = Record<string, string | string[] | undefined>;

/** A runtime's headers that the provider may see. */
export function requestHeaders(headers: Headers): Record<string, string> {
  return pick(headers, REQUEST_HEADERS);
}

/** A provider's headers that a runtime may see: those that name the operator's organisation are not among them. */
export function responseHeaders(headers: Headers): Record<string, string> {
  return pick(headers, RESPONSE_HEADERS);
}

function pick(headers: Headers, allowed: RegExp): Record<string, string> {
  const picked: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value === "string" && allowed.test(name)) picked[name] = value;
  }
  return picked;
}
