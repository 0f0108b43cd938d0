import type { Redis } from "ioredis";
import { type RateLimiterAbstract, RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import type { ProviderId, TenantId } from "../core/platform/ids.ts";

const PER_MINUTE = 30;

export type TokenLimit = {
  /** Counts an asking. @returns 0 when it may go on, otherwise in how many ms the next may. */
  take(tenantId: TenantId, provider: ProviderId): Promise<number>;
};

/**
 * 30 askings a minute for each tenant and provider: counted in Redis over all daemons, else in memory, each daemon with its part of
 * them, as also while Redis is away.
 */
export function createTokenLimit(options: {
  redis: Redis | undefined;
  countDaemons: () => Promise<number>;
}): TokenLimit {
  const limits = { keyPrefix: "openclaw:tokens", points: PER_MINUTE, duration: 60 };
  const memory = new RateLimiterMemory(limits);
  const limiter: RateLimiterAbstract =
    options.redis === undefined
      ? memory
      : new RateLimiterRedis({ ...limits, storeClient: options.redis, insuranceLimiter: memory });
  return {
    async take(tenantId, provider) {
      memory.points = Math.ceil(PER_MINUTE / (await options.countDaemons()));
      try {
        await limiter.consume(`${tenantId}:${provider}`);
        return 0;
      } catch (error) {
        // The library throws its verdict.
        if (error instanceof RateLimiterRes) return Math.max(1, error.msBeforeNext);
        throw error;
      }
    },
  };
}
