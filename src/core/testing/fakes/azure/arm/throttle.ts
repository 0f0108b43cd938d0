import { Refusal } from "./refusal.ts";

/** Counts calls in a window that moves with time; unlimited until told. */
export function createThrottle(): {
  limit(calls: number, windowMs: number): void;
  /** @throws Refusal with Retry-After for a call too many. */
  count(): void;
} {
  let allowed = Number.POSITIVE_INFINITY;
  let windowMs = 0;
  let times: number[] = [];
  return {
    limit(calls, ms) {
      allowed = calls;
      windowMs = ms;
    },
    count() {
      const now = performance.now();
      times = times.filter((time) => time > now - windowMs);
      const [first] = times;
      if (first === undefined || times.length < allowed) return void times.push(now);
      const seconds = Math.max(1, Math.ceil((first + windowMs - now) / 1_000));
      const message = `Number of requests exceeded the limit of '${allowed}'. Please try again after '${seconds}' seconds.`;
      throw new Refusal(429, "TooManyRequests", message, { "retry-after": String(seconds) });
    },
  };
}
