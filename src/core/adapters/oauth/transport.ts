import { Agent, request } from "undici";

/** There is no answer that can be read; `code` says why. */
export class NoReply extends Error {
  readonly code: "unreachable" | "connection_lost" | "timeout" | "malformed_reply";

  constructor(code: NoReply["code"], options?: ErrorOptions) {
    super(code, options);
    this.code = code;
    this.name = "NoReply";
  }
}

const MAX_REPLY_BYTES = 256 * 1024;

/**
 * Every request gets a connection of its own: on one that was kept, and that the other side is just closing, nobody can tell
 * whether a refresh token was spent.
 */
const dispatcher = new Agent({ pipelining: 0, maxResponseSize: MAX_REPLY_BYTES });

export type Post = { url: string; headers: Record<string, string>; body: URLSearchParams; timeoutMs: number };

/**
 * The reply to one form, whatever its status; redirects are not followed. Its time counts from first to last byte.
 * @throws NoReply
 */
export async function post({ url, headers, body, timeoutMs }: Post): Promise<Response> {
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const reply = await request(url, { method: "POST", headers, body: body.toString(), dispatcher, signal });
    const text = await reply.body.text();
    return asResponse(reply.statusCode, reply.headers["retry-after"], text);
  } catch (error) {
    // To translate: the words of sockets and libraries say nothing to whoever asked.
    throw error instanceof NoReply ? error : new NoReply(reasonOf(error), { cause: error });
  }
}

/** With those headers alone that count. */
function asResponse(status: number, retryAfter: string | string[] | undefined, text: string): Response {
  if (status < 200 || status > 599) throw new NoReply("malformed_reply");
  const isBodiless = status === 204 || status === 205 || status === 304;
  const headers = { "content-type": "application/json" };
  return new Response(isBodiless ? null : text, {
    status,
    headers: typeof retryAfter === "string" ? { ...headers, "retry-after": retryAfter } : headers,
  });
}

const REASONS: Record<string, NoReply["code"]> = {
  TimeoutError: "timeout",
  UND_ERR_CONNECT_TIMEOUT: "timeout",
  UND_ERR_HEADERS_TIMEOUT: "timeout",
  UND_ERR_BODY_TIMEOUT: "timeout",
  ETIMEDOUT: "timeout",
  UND_ERR_SOCKET: "connection_lost",
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: "connection_lost",
  ECONNRESET: "connection_lost",
  EPIPE: "connection_lost",
  UND_ERR_RES_EXCEEDED_MAX_SIZE: "malformed_reply",
};

function reasonOf(error: unknown): NoReply["code"] {
  if (!(error instanceof Error)) return "unreachable";
  const code = "code" in error && typeof error.code === "string" ? error.code : error.name;
  if (code.startsWith("HPE_")) return "malformed_reply";
  return REASONS[code] ?? REASONS[error.name] ?? "unreachable";
}
