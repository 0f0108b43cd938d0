import { Pool } from "undici";
import { UpstreamError } from "../../platform/errors.ts";
import type { Pacer } from "./pacer.ts";
import { splitText } from "./split-text.ts";

/** Telegram refused a call, or could not be reached (`errorCode` undefined). Neither message nor cause holds the bot's token. */
export class BotApiError extends UpstreamError {
  readonly errorCode: number | undefined;
  readonly description: string;
  /** How long Telegram asks to wait before the same call is made again. */
  readonly retryAfterSeconds: number | undefined;
  /** The chat became a supergroup with this id. */

  /** The person blocked the bot or is gone: nothing arrives there until they write again. */
  get isChatClosed(): boolean {
    return isChatClosed(this.errorCode, this.description);
  }

  constructor(
    code: string,
    method: string,
    failure: {
      description: string;
      retryable: boolean;
      errorCode?: number;
      retryAfterSeconds?: number | undefined;
      cause?: unknown;
    },
  ) {
    super(code, `Telegram ${method} failed: ${failure.description}`, {
      service: "telegram",
      retryable: failure.retryable,
      cause: failure.cause,
    });
    this.errorCode = failure.errorCode;
    this.description = failure.description;
    this.retryAfterSeconds = failure.retryAfterSeconds;
  }
}

export type BotApi = {
  /** Calls a method and returns its `result`. Throws BotApiError. */
  call(method: string, params?: Record<string, unknown>, options?: { signal?: AbortSignal }): Promise<unknown>;
  /**
   * Sends plain text, without markup, in as many messages as it needs, in order and at the pace of everything else that the
   * bot sends. A failure leaves the messages before it sent. Throws BotApiError, also when its turn is too far off.
   */
  sendMessage(chatId: number, text: string, options?: { signal?: AbortSignal }): Promise<void>;
  /** Shows for some seconds that an answer is on its way; left out when the bot has no room for it. Throws BotApiError. */
  showTyping(chatId: number): Promise<void>;
  close(): Promise<void>;
};

/** What the control plane says by itself waits for turns together, so that many of its notices don't hold up the tenants. */
const NOTICES = "notices";

/**
 * A client of the Bot API at `apiRoot` (no trailing slash needed) for the bot that `token` belongs to. Only who sends
 * messages needs a `pacer`.
 */
export function createBotApi({ apiRoot, token, pacer }: { apiRoot: string; token: string; pacer?: Pacer }): BotApi {
  const root = new URL(apiRoot);
  const prefix = root.pathname.replace(/\/+$/, "");
  const pool = new Pool(root.origin, {
    connections: 16,
    connect: { timeout: 10_000 },
    headersTimeout: 60_000,
    bodyTimeout: 60_000,
  });

  async function call(
    method: string,
    params: Record<string, unknown> = {},
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<unknown> {
    const reply = await exchange(method, params, signal);
    if (reply.body?.ok === true) return reply.body.result;
    throw refusal(method, reply.status, reply.body);
  }

  async function exchange(
    method: string,
    params: Record<string, unknown>,
    signal: AbortSignal | undefined,
  ): Promise<{ status: number; body: ReplyBody | undefined }> {
    try {
      const { statusCode, body } = await pool.request({
        method: "POST",
        path: `${prefix}/bot${token}/${method}`,
        headers: { "content-type": "application/json" },
        body: JSON.stringify(params),
        ...(signal === undefined ? {} : { signal }),
      });
      return { status: statusCode, body: parseReply(await body.text()) };
    } catch (cause) {
      signal?.throwIfAborted();
      throw new BotApiError("telegram-unreachable", method, { description: "no answer", retryable: true, cause });
    }
  }

  async function send(chatId: number, text: string, options?: { signal?: AbortSignal }): Promise<void> {
    const admission = await pacer?.admit({ chatId, share: NOTICES, isMessage: true }, options?.signal);
    if (admission?.admitted === false) throw tooSoon("sendMessage", admission.retryAfterSeconds);
    try {
      await call("sendMessage", { chat_id: chatId, text }, options);
    } catch (error) {
      if (error instanceof BotApiError && error.retryAfterSeconds !== undefined)
        pacer?.slowDown(chatId, error.retryAfterSeconds);
      throw error;
    }
  }

  return {
    call,
    async sendMessage(chatId, text, options) {
      for (const part of splitText(text)) await send(chatId, part, options);
    },
    async showTyping(chatId) {
      if ((await pacer?.admitAction(chatId)) === false) return;
      await call("sendChatAction", { chat_id: chatId, action: "typing" });
    },
    close: () => pool.close(),
  };
}

/** Whether a refusal means that nothing will arrive in a chat until its person writes again. */
export function isChatClosed(errorCode: number | undefined, description: string): boolean {
  return errorCode === 403 && /blocked by the user|user is deactivated|was kicked|can't initiate/i.test(description);
}

function tooSoon(method: string, retryAfterSeconds: number): BotApiError {
  const description = `Too Many Requests: retry after ${retryAfterSeconds}`;
  return new BotApiError("telegram-paced", method, {
    description,
    retryable: true,
    errorCode: 429,
    retryAfterSeconds,
  });
}

type ReplyBody = {
  ok: boolean;
  result?: unknown;
  description?: unknown;
  parameters?: { retry_after?: unknown };
};

/** A proxy in between may answer HTML: that is no reply of Telegram's. */
function parseReply(text: string): ReplyBody | undefined {
  try {
    const body: unknown = JSON.parse(text);
    return isReplyBody(body) ? body : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isReplyBody(body: unknown): body is ReplyBody {
  return typeof body === "object" && body !== null && "ok" in body;
}

function refusal(method: string, status: number, body: ReplyBody | undefined): BotApiError {
  return new BotApiError("telegram-refused", method, {
    errorCode: status,
    description: typeof body?.description === "string" ? body.description : `HTTP ${status}`,
    retryable: status === 429 || status >= 500 || body === undefined,
    retryAfterSeconds: asNumber(body?.parameters?.retry_after),
  });
}

function asNumber(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}
