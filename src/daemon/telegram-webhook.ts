import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { UpstreamError, UsageError } from "../core/platform/errors.ts";
import type { Log } from "../core/platform/log.ts";
import type { Acceptor } from "../core/router/router.ts";
import { errorBody, MAX_WEBHOOK_BYTES, secretMatcher, type Shortcut } from "./http.ts";
import type { Metrics } from "./metrics.ts";

type Deps = {
  secret: string | undefined;
  /** Undefined while no bot token is configured. */
  acceptor: Acceptor | undefined;
  metrics: Metrics;
  log: Log;
};

type Refusal = { status: number; code: string; message: string };

/**
 * `POST /webhooks/telegram`: check the secret before the body is read, keep the update, then 200 with an empty body. Every
 * update of every tenant comes this way, so it is served without a framework, which would take as long again as all of this.
 */
export function telegramWebhook(deps: Deps): Shortcut {
  const isRight = deps.secret === undefined ? undefined : secretMatcher(deps.secret);
  const kept = {
    accepted: deps.metrics.webhooks.labels({ source: "telegram", result: "accepted" }),
    duplicate: deps.metrics.webhooks.labels({ source: "telegram", result: "duplicate" }),
  };

  function gate(request: IncomingMessage): Acceptor | Refusal {
    if (isRight === undefined) return closed("TELEGRAM_WEBHOOK_SECRET");
    const given = request.headers["x-telegram-bot-api-secret-token"];
    if (typeof given !== "string" || !isRight(given))
      return { status: 403, code: "forbidden", message: "The secret token is wrong." };
    if (Number(request.headers["content-length"] ?? 0) > MAX_WEBHOOK_BYTES) return TOO_LARGE;
    return deps.acceptor ?? closed("TELEGRAM_BOT_TOKEN");
  }

  function serve(request: IncomingMessage, response: ServerResponse): void {
    const acceptor = gate(request);
    if ("status" in acceptor) return refuse(response, acceptor);
    const chunks: Buffer[] = [];
    let size = 0;
    request.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size <= MAX_WEBHOOK_BYTES) return;
      request.removeAllListeners("data").removeAllListeners("end");
      refuse(response, TOO_LARGE);
    });
    request.on("end", () => void keep(acceptor, Buffer.concat(chunks), response));
  }

  async function keep(acceptor: Acceptor, body: Buffer, response: ServerResponse): Promise<void> {
    try {
      const result = await acceptor.accept(body);
      kept[result].inc();
      response.writeHead(200, { "x-request-id": randomUUID(), "content-length": 0 }).end();
    } catch (error) {
      refuse(response, refusalFor(error), error);
    }
  }

  function refuse(response: ServerResponse, { status, code, message }: Refusal, error?: unknown): void {
    const requestId = randomUUID();
    deps.metrics.webhooks.inc({ source: "telegram", result: code });
    if (status >= 500 && error !== undefined)
      deps.log.error({ error, route: PATH, requestId, status }, "request failed");
    const headers = { "content-type": "application/json; charset=utf-8", "x-request-id": requestId };
    // The rest of a body that nobody reads must not be taken for the next request.
    if (!response.req.complete) response.shouldKeepAlive = false;
    response.writeHead(status, headers).end(JSON.stringify(errorBody(code, message, requestId)));
  }

  return { matches: ({ url, method }) => url === PATH && method === "POST", serve };
}

const PATH = "/webhooks/telegram";
const TOO_LARGE: Refusal = { status: 413, code: "request_too_large", message: "An update has at most 1 MiB." };

/** Never open: without a secret nobody can be believed (F92). */
function closed(variable: string): Refusal {
  return { status: 503, code: "not_configured", message: `This webhook is closed until ${variable} is set.` };
}

function refusalFor(error: unknown): Refusal {
  if (error instanceof UsageError) return { status: 400, code: error.code, message: error.message };
  if (error instanceof UpstreamError) return { status: 503, code: error.code, message: error.message };
  return { status: 500, code: "internal", message: "Something went wrong here. Telegram will send the update again." };
}
