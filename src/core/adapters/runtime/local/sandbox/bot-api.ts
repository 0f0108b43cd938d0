import { setTimeout as delay } from "node:timers/promises";
import { call, parseJson } from "./post.ts";
import { field, textField } from "./settings.ts";

export type Outcome = { ok: true } | { ok: false; status: number; description: string };

export type BotApi = {
  /**
   * Calls a method until the other side decides: what can't be reached, a 5xx and a 429 (after its `retry_after`) are tried again.
   * @throws when `signal` aborts between two tries.
   */
  decide(method: string, params: Record<string, unknown> | undefined, signal: AbortSignal): Promise<Outcome>;
  /** One try whose outcome nobody needs, such as "typing". */
  hint(method: string, params: Record<string, unknown>): Promise<void>;
};

const TIMEOUT_MS = 30_000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;

export function createBotApi(options: {
  apiRoot: string;
  botToken: string;
  log: (message: string, fields?: Record<string, unknown>) => void;
}): BotApi {
  const urlOf = (method: string): string => `${options.apiRoot}/bot${options.botToken}/${method}`;

  async function attempt(
    method: string,
    params: Record<string, unknown> | undefined,
  ): Promise<Outcome & { retryAfterMs?: number }> {
    const { status, body } = await call(urlOf(method), {
      ...(params === undefined ? {} : { body: params }),
      timeoutMs: TIMEOUT_MS,
    });
    const answer = parseJson(body);
    if (status === 200 && field(answer, "ok") === true) return { ok: true };
    const retryAfter = Number(field(answer, "parameters", "retry_after"));
    const description = textField(answer, "description") ?? "no description";
    return { ok: false, status, description, ...(retryAfter > 0 ? { retryAfterMs: retryAfter * 1_000 } : {}) };
  }

  return {
    async decide(method, params, signal) {
      for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
        const outcome = await attempt(method, params).catch(
          // The URL in the error's own text would carry the token (F90).
          (error: unknown) => ({ ok: false, status: 0, description: textField(error, "code") ?? "no answer" }) as const,
        );
        if (outcome.ok || !isTransient(outcome.status)) return outcome;
        const waitMs = ("retryAfterMs" in outcome ? outcome.retryAfterMs : undefined) ?? pauseMs;
        options.log("bot api: trying again", {
          method,
          status: outcome.status,
          description: outcome.description,
          waitMs,
        });
        await delay(waitMs, undefined, { signal });
      }
    },
    async hint(method, params) {
      await attempt(method, params).catch(() => options.log("bot api: no answer", { method }));
    },
  };
}

function isTransient(status: number): boolean {
  return status === 0 || status === 429 || status >= 500;
}
