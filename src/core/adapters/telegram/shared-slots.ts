import type { Redis } from "ioredis";
import type { Log } from "../../platform/log.ts";
import { createMemorySlots, type SendSlots, type Slots, type SlotWish } from "./send-slots.ts";

/** After a failure, memory does for so long before Redis is asked again. */
const RETRY_MS = 1_000;

/** By the clock of Redis, so that daemons need not agree on the time. Times are milliseconds with fractions. */
const NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + t[2] / 1000";

const RESERVE = `${NOW}
local answers, atOnce = {}, true
for i, key in ipairs(KEYS) do
  local interval, wanted, horizon = tonumber(ARGV[5 * i - 4]), tonumber(ARGV[5 * i - 3]), tonumber(ARGV[5 * i - 2])
  local maxWait, linked = tonumber(ARGV[5 * i - 1]), ARGV[5 * i] == '1'
  local wait, granted = 0, 0
  if atOnce or not linked then
    local free = math.max(now, tonumber(redis.call('GET', key) or '0'))
    wait = free - now
    atOnce = wait == 0
    if wait <= maxWait then
      granted = math.min(wanted, math.max(1, math.floor((horizon - wait) / interval) + 1))
      local next = free + granted * interval
      redis.call('SET', key, string.format('%.3f', next), 'PX', math.ceil(next - now) + 1)
    end
  end
  answers[#answers + 1] = math.ceil(wait * 1000)
  answers[#answers + 1] = granted
end
return answers`;

const HOLD = `${NOW}
local free = math.max(now + tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[1]) or '0'))
redis.call('SET', KEYS[1], string.format('%.3f', free), 'PX', math.ceil(free - now) + 1)
return 1`;

/** A bot's slots: shared through Redis when there is one, else in memory, each daemon with its part of the limits. */
export function openSlots(options: {
  redis: Redis | undefined;
  botId: number;
  countDaemons: () => Promise<number>;
  log: Log;
}): SendSlots {
  const { redis, botId, countDaemons, log } = options;
  if (redis !== undefined) {
    const memory = createMemorySlots(countDaemons);
    return createSharedSlots({ redis, prefix: `openclaw:telegram:${botId}`, memory, log });
  }
  let isSaid = false;
  return createMemorySlots(async () => {
    const daemons = await countDaemons();
    if (daemons > 1 && !isSaid) {
      log.warn({ daemons }, "without Redis each daemon sends at its part of the limits; set REDIS_URL to share them");
      isSaid = true;
    }
    return daemons;
  });
}

/** Slots that all daemons of a bot share. While Redis is away, `memory` gives them; what is on hold stays so in both. */
export function createSharedSlots(options: { redis: Redis; prefix: string; memory: SendSlots; log: Log }): SendSlots {
  const { redis, memory, log } = options;
  // The braces keep the keys of a bot in one slot of a cluster.
  const keyOf = (line: string) => `{${options.prefix}}:${line}`;
  let isAway = false;
  let awayUntil = 0;

  /** Undefined when Redis can't be asked. */
  async function ask(script: string, keys: string[], args: number[]): Promise<unknown> {
    if (performance.now() < awayUntil) return undefined;
    try {
      const answer = await redis.eval(script, keys.length, ...keys, ...args);
      if (isAway) log.info({}, "sends are paced together with other daemons again");
      isAway = false;
      return answer;
    } catch (error) {
      if (!isAway) log.warn({ error }, "Redis does not answer, sends are paced in memory by a share of the limits");
      isAway = true;
      awayUntil = performance.now() + RETRY_MS;
      return undefined;
    }
  }

  return {
    isShared: () => !isAway,
    async reserve(wishes) {
      const answer = await ask(
        RESERVE,
        wishes.map((wish) => keyOf(wish.line)),
        wishes.flatMap((wish) => [wish.intervalMs, wish.wanted, wish.horizonMs, wish.maxWaitMs, wish.isLinked ? 1 : 0]),
      );
      return Array.isArray(answer) ? readSlots(wishes, answer) : memory.reserve(wishes);
    },
    async hold(line, ms) {
      await Promise.all([memory.hold(line, ms), ask(HOLD, [keyOf(line)], [ms])]);
    },
  };
}

function readSlots(wishes: readonly SlotWish[], answer: unknown[]): Slots[] {
  return wishes.map((_wish, index) => ({
    waitMs: Number(answer[2 * index]) / 1_000,
    granted: Number(answer[2 * index + 1]),
  }));
}
