import { addMs } from "../platform/clock.ts";
import { REFRESH_BEFORE_MS } from "./connection.ts";

const SHORTEST_MS = 60_000;
const UNSAID_LIFE_MS = 60 * 60_000;
const BASE_MS = 30_000;
const LONGEST_MS = 30 * 60_000;
const LONGEST_WISH_MS = 60 * 60_000;

/** On demand, a connection that could not be renewed is tried so often at most. */
const ON_DEMAND_MS = 15_000;

/**
 * When to renew an access token got at `now`: 15 minutes before its end, but not in the first half of its life, nor in the first minute.
 * Null: the provider does not say. Then it is taken for an hour, as is usual: one taken for endless would end unnoticed, and with it the
 * connection. RFC 6749, section 5.1.
 */
export function planRefresh(now: Date, accessExpiresAt: Date | null): Date {
  const lifeMs = accessExpiresAt === null ? UNSAID_LIFE_MS : accessExpiresAt.getTime() - now.getTime();
  return addMs(now, Math.max(SHORTEST_MS, lifeMs / 2, lifeMs - REFRESH_BEFORE_MS));
}

/**
 * When to try again after so many failures in a row: 30 s after the first, twice as long after each further one, half an hour at most,
 * by chance up to half of that sooner. What the provider wished for (`waitUntil`) is kept.
 */
export function planRetry(
  now: Date,
  { attempts, waitUntil }: { attempts: number; waitUntil: Date | null },
  random: () => number,
): Date {
  const longestMs = Math.min(LONGEST_MS, BASE_MS * 2 ** (attempts - 1));
  const at = addMs(now, longestMs * (0.5 + random() / 2));
  return waitUntil !== null && waitUntil > at ? waitUntil : at;
}

/** Until when a provider is left alone that asked for it: an hour at most. */
export function planWait(now: Date, retryAfterMs: number | undefined): Date | null {
  return retryAfterMs === undefined ? null : addMs(now, Math.min(Math.max(0, retryAfterMs), LONGEST_WISH_MS));
}

/** When a connection that could not be renewed at `triedAt` may be tried on demand. */
export function mayBeTriedAt(triedAt: Date, waitUntil: Date | null): Date {
  const at = addMs(triedAt, ON_DEMAND_MS);
  return waitUntil !== null && waitUntil > at ? waitUntil : at;
}
