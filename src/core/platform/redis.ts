import { Redis } from "ioredis";
import type { Log } from "./log.ts";

/** Redis that hangs is as good as gone: no message may wait for it. */
const ANSWER_MS = 250;

/**
 * A connection to Redis, which holds nothing that matters: a command fails at once while the server is away, and soon when
 * it hangs, so that its caller can do without, and the connection comes back by itself.
 */
export function openRedis(url: string, log: Log): Redis {
  const redis = new Redis(url, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    connectTimeout: 2_000,
    commandTimeout: ANSWER_MS,
    retryStrategy: (attempt) => Math.min(attempt * 100, 2_000),
  });
  let isAway = false;
  redis.on("error", (error) => {
    // One line when it goes, not one for every try to reach it.
    if (!isAway) log.warn({ error }, "Redis can't be reached, limits are kept in memory");
    isAway = true;
  });
  redis.on("ready", () => {
    if (isAway) log.info({}, "Redis is back");
    isAway = false;
  });
  return redis;
}
