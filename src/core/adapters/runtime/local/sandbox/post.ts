import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";

/** Undefined for what is not JSON, such as a proxy's page. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // What JSON.parse says would quote the text, which is nobody's to log.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

export type Answer = { status: number; body: string };

/** Sends `body` as JSON (a GET without one) and reads the whole answer. Rejects when nothing answers within `timeoutMs`. */
export function call(
  url: string,
  options: { body?: unknown; headers?: Record<string, string>; timeoutMs: number },
): Promise<Answer> {
  const payload = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body));
  const request = url.startsWith("https:") ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      method: payload === undefined ? "GET" : "POST",
      headers: {
        ...options.headers,
        ...(payload === undefined ? {} : { "content-type": "application/json", "content-length": payload.length }),
      },
      signal: AbortSignal.timeout(options.timeoutMs),
    });
    outgoing.once("error", reject);
    outgoing.once("response", (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.once("error", reject);
      incoming.once("end", () =>
        resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
      );
    });
    outgoing.end(payload);
  });
}
