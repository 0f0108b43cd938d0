import type { Redis } from "ioredis";
import { type RateLimiterAbstract, RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";

const MINUTE_MS = 60_000;

export type RateLimit = {
  /** Counts an update against its chat's minute of acceptance; false when that minute is used up. */
  allow(lane: number, acceptedAt: Date): Promise<boolean>;
};

/**
 * At most `perMinute` updates of a chat in a minute, by the time of acceptance: what waited for a runtime is not punished
 * for arriving there in a bunch. 0 allows everything. Counted in Redis so that a chat that moves to another daemon takes
 * its count along; while Redis is away, its daemon counts on alone.
 */
export function createRateLimit(options: { perMinute: number; redis: Redis | undefined }): RateLimit {
  if (options.perMinute === 0) return { allow: async () => true };
  const limiter = createLimiter(options.perMinute, options.redis);
  return {
    async allow(lane, acceptedAt) {
      try {
        await limiter.consume(`${lane}:${Math.floor(acceptedAt.getTime() / MINUTE_MS)}`);
        return true;
      } catch (error) {
        // The library throws its verdict.
        if (error instanceof RateLimiterRes) return false;
        throw error;
      }
    },
  };
}

function createLimiter(perMinute: number, redis: Redis | undefined): RateLimiterAbstract {
  // Kept for two minutes: the key names the minute, so that it only has to outlive it.
  const limits = { keyPrefix: "openclaw:updates", points: perMinute, duration: (2 * MINUTE_MS) / 1_000 };
  const memory = new RateLimiterMemory(limits);
  return redis === undefined
    ? memory
    : new RateLimiterRedis({ ...limits, storeClient: redis, insuranceLimiter: memory });
}
