import { type Check, failed, ok, warning } from "../platform/check.ts";
import type { Config } from "../platform/config.ts";
import { errorMessage } from "../platform/errors.ts";
import { askRedisVersion } from "../platform/redis.ts";

const OLDEST_VERSION = 7;

/** Redis holds nothing that matters; without it, limits are kept in memory. */
export function redisCheck({ redisUrl }: Config): Check {
  return {
    name: "redis",
    async run() {
      if (redisUrl === undefined) return ok("none: limits are kept in memory, and divided by the number of daemons");
      try {
        const version = await askRedisVersion(redisUrl);
        if (Number.parseInt(version, 10) >= OLDEST_VERSION) return ok(`Redis ${version}`);
        return warning(`Redis ${version} is older than what is tested`, `Use Redis ${OLDEST_VERSION} or newer.`);
      } catch (error) {
        const remedy = "Check the server and REDIS_URL; until then, limits are kept in memory.";
        return failed(`Redis can't be used: ${errorMessage(error)}`, remedy);
      }
    },
  };
}
