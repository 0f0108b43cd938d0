import { Redis } from "ioredis";
import type { Log } from "./log.ts";

/** Redis that hangs is as good as gone: no message may wait for it. */
const ANSWER_MS = 250;

const CONNECT_MS = 5_000;

/** Connects once, and gives up at once when that fails. @throws what the client throws. */
export async function askRedisVersion(url: string): Promise<string> {
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: CONNECT_MS,
    commandTimeout: CONNECT_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  // Told by what connect() throws.
  redis.on("error", () => undefined);
  try {
    await redis.connect();
    return /^redis_version:(.*)$/m.exec(await redis.info("server"))?.[1]?.trim() ?? "of an unknown version";
  } finally {
    redis.disconnect();
  }
}

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
