import { type Clock } from "../platform/clock.ts";
import type { UpstreamReply } from "./bot-api-upstream.ts";

const KEPT_MS = 60 * 60 * 1_000;
const RETRY_MS = 10_000;

/**
 * The bot's identity, asked for once by however many callers, and again an hour later. When that fails, the one known before
 * serves on, so that runtimes start while Telegram is away (F4); without one, the failure is the caller's and is not kept.
 */
export function cacheIdentity(clock: Clock, ask: () => Promise<UpstreamReply>): () => Promise<UpstreamReply> {
  let known: UpstreamReply | undefined;
  let freshUntil = 0;
  let asking: Promise<UpstreamReply> | undefined;

  async function refresh(): Promise<UpstreamReply> {
    try {
      known = await ask();
      freshUntil = clock.now().getTime() + KEPT_MS;
      return known;
    } catch (error) {
      if (known === undefined) throw error;
      freshUntil = clock.now().getTime() + RETRY_MS;
      return known;
    } finally {
      asking = undefined;
    }
  }

  return async () => {
    if (known !== undefined && clock.now().getTime() < freshUntil) return known;
    asking ??= refresh();
    return asking;
  };
}
