import { setTimeout as delay } from "node:timers/promises";
import { createBatcher } from "../../platform/batcher.ts";
import { createFairQueue } from "./fair-queue.ts";
import { createMemorySlots, type SendSlots, type Slots, type SlotWish } from "./send-slots.ts";

/** A call that Telegram counts. `share` is who waits for turns together, as a rule a tenant. */
export type PacedCall = {
  chatId: number;
  share: string;
  /** Messages and changes to them have a limit for each chat; other calls only count for the bot. */
  isMessage: boolean;
};

export type Admission = { admitted: true } | { admitted: false; retryAfterSeconds: number };

export type PacerState = {
  isShared: boolean;
  waiting: number;
  admitted: number;
  refused: number;
  /** Chat actions left out. */
  shed: number;
  /** How often Telegram itself asked for patience. */
  slowDowns: number;
};

/** Keeps the bot within what Telegram takes, and tells Telegram's own demands for patience to all daemons. */
export type Pacer = {
  /** Waits for the call's turn, or says when to come back if that is more than ten seconds off. Rejects when `signal` aborts. */
  admit(call: PacedCall, signal?: AbortSignal): Promise<Admission>;
  /** Whether there is room for a chat action, which takes none away and is left out when there is no room. */
  admitAction(chatId: number): Promise<boolean>;
  /** To be told of every `retry_after` of Telegram's. */
  slowDown(chatId: number, retryAfterSeconds: number): void;
  state(): PacerState;
};

type Waiting = {
  until: number;
  signal: AbortSignal | undefined;
  settle: (admission: Admission) => void;
  fail: (reason: unknown) => void;
};

const MAX_WAIT_MS = 10_000;
/** The chat's line may take so much of that; the rest is for the bot's. */
const MAX_CHAT_WAIT_MS = 9_000;
const CHAT_INTERVAL_MS = 1_000;
/** How far ahead slots of the bot are taken: enough to ask seldom, too little to keep them from other daemons. */
const HORIZON_MS = 50;
const ACTION_BURST_MS = 1_000;
const BOT_LINE = "bot";
const NO_SLOT: Slots = { waitMs: 0, granted: 0 };
/**
 * Telegram does not say whether its patience ends for one chat or for the whole bot. Chats are kept within their limits
 * here, so when several are refused at once, it is the bot.
 */
const CHATS_THAT_MEAN_THE_BOT = 3;
/** What is refused within this time is refused at once. */
const AT_ONCE_MS = 2_000;
/** The bot is tried again after so long, whatever was asked for: the next refusals hold it anew. */
const MAX_BOT_HOLD_MS = 60_000;

export function createPacer(options: {
  slots: SendSlots;
  sendsPerSecond: number;
  /** For actions, which are counted by each daemon. */
  divisor: () => Promise<number>;
  chatIntervalMs?: number;
  maxWaitMs?: number;
}): Pacer {
  const { slots, sendsPerSecond, chatIntervalMs = CHAT_INTERVAL_MS, maxWaitMs = MAX_WAIT_MS } = options;
  const intervalMs = 1_000 / sendsPerSecond;
  const maxChatWaitMs = Math.min(MAX_CHAT_WAIT_MS, maxWaitMs);
  const maxWaiting = Math.max(1, Math.ceil(maxWaitMs / intervalMs));
  const actions = createMemorySlots(options.divisor);
  const queue = createFairQueue<Waiting>();
  const heldUntil = new Map<number, number>();
  const refused = new Map<number, { at: number; ms: number }>();
  const counts = { admitted: 0, refused: 0, shed: 0, slowDowns: 0 };
  const linkedToOwn = {
    line: BOT_LINE,
    intervalMs,
    wanted: 1,
    horizonMs: 0,
    maxWaitMs: Math.min(HORIZON_MS, maxWaitMs),
    isLinked: true,
  };
  let botHeldUntil = 0;
  let outsideQueue = 0;
  let isServing = false;

  /**
   * A message's slot in its chat's line and, where nobody waits for the bot's, one there in the same step: mostly nobody
   * does, and asking Redis once is half the delay.
   */
  const lines = createBatcher({
    maxItems: 500,
    async run(chatIds: number[]) {
      const isBotFree = queue.size === 0;
      const wishes = chatIds.flatMap((chatId): SlotWish[] => {
        const line = `chat:${chatId}`;
        const own = { line, intervalMs: chatIntervalMs, wanted: 1, horizonMs: 0, maxWaitMs: maxChatWaitMs };
        return isBotFree ? [own, linkedToOwn] : [own];
      });
      const given = await slots.reserve(wishes);
      return chatIds.map((_, index) =>
        isBotFree ? given.slice(2 * index, 2 * index + 2) : given.slice(index, index + 1),
      );
    },
  });

  async function admit({ chatId, share, isMessage }: PacedCall, signal?: AbortSignal): Promise<Admission> {
    const until = performance.now() + maxWaitMs;
    const [own = NO_SLOT, bots = NO_SLOT] = isMessage ? await lines.submit(chatId) : [untilFree(chatId)];
    if (own.granted === 0) return count(comeBackIn(own.waitMs));
    await wait(own.waitMs, signal);
    signal?.throwIfAborted();
    if (bots.granted === 0) return count(await passBot(share, until, signal));
    await wait(bots.waitMs, signal);
    return count({ admitted: true });
  }

  async function wait(ms: number, signal?: AbortSignal): Promise<void> {
    // Timers know nothing shorter.
    if (ms < 1) return;
    outsideQueue += 1;
    await sleep(ms, signal).finally(() => (outsideQueue -= 1));
  }

  function count(admission: Admission): Admission {
    counts[admission.admitted ? "admitted" : "refused"] += 1;
    return admission;
  }

  /** What is no message has no line in its chat, and only stops when the chat is on hold. */
  function untilFree(chatId: number): Slots {
    const waitMs = Math.max(0, heldMs(chatId));
    return { waitMs, granted: waitMs > 0 ? 0 : 1 };
  }

  function passBot(share: string, until: number, signal?: AbortSignal): Promise<Admission> {
    return new Promise((settle, fail) => {
      queue.push(share, { until, signal, settle, fail });
      // More than can be served in time: the end of the longest queue gives way, be it this one or another's.
      if (queue.size > maxWaiting) queue.takeFromLongest()?.settle(comeBackIn(queueMs()));
      if (!isServing) void serve();
    });
  }

  /** Hands out the bot's slots in turns while anybody waits. */
  async function serve(): Promise<void> {
    isServing = true;
    let watch: NodeJS.Timeout | undefined;
    while (queue.size > 0) {
      const [given] = await slots.reserve([
        { line: BOT_LINE, intervalMs, wanted: queue.size, horizonMs: HORIZON_MS, maxWaitMs },
      ]);
      const { waitMs, granted } = given ?? { waitMs: 0, granted: 0 };
      const from = performance.now() + waitMs;
      if (granted === 0) for (const { settle } of queue.takeWhere(() => true)) settle(comeBackIn(waitMs));
      for (let slot = 0; slot < granted && queue.size > 0; slot += 1) {
        const restMs = from + slot * intervalMs - performance.now();
        if (restMs > 0) {
          // One for all that wait, and none while nobody does: a timer for each call costs more than the rest of its way.
          watch ??= setInterval(dismiss, maxWaitMs / 100);
          await sleep(restMs);
        }
        queue.take()?.settle({ admitted: true });
      }
    }
    clearInterval(watch);
    isServing = false;
  }

  /** Lets go of those whose time is up, and of those who went away. */
  function dismiss(): void {
    const now = performance.now();
    for (const { signal, settle, fail } of queue.takeWhere(
      (call) => call.until <= now || call.signal?.aborted === true,
    ))
      if (signal?.aborted === true) fail(signal.reason);
      else settle(comeBackIn(queueMs()));
  }

  function queueMs(): number {
    return queue.size * intervalMs;
  }

  function heldMs(chatId: number): number {
    return (heldUntil.get(chatId) ?? 0) - performance.now();
  }

  return {
    admit,
    async admitAction(chatId) {
      const isHeld = heldMs(chatId) > 0 || botHeldUntil > performance.now();
      const isFree = queue.size === 0 && !isHeld && (await hasRoomForAction(chatId));
      if (!isFree) counts.shed += 1;
      return isFree;
    },
    slowDown(chatId, retryAfterSeconds) {
      const ms = retryAfterSeconds * 1_000;
      counts.slowDowns += 1;
      for (const [chat, until] of heldUntil) if (until <= performance.now()) heldUntil.delete(chat);
      heldUntil.set(chatId, Math.max(heldUntil.get(chatId) ?? 0, performance.now() + ms));
      void slots.hold(`chat:${chatId}`, ms);
      const botMs = botHoldMs(chatId, ms);
      if (botMs === 0) return;
      botHeldUntil = Math.max(botHeldUntil, performance.now() + botMs);
      void slots.hold(BOT_LINE, botMs);
    },
    state: () => ({ ...counts, isShared: slots.isShared(), waiting: queue.size + outsideQueue }),
  };

  /** The least that any of the chats was asked for: a limit of the bot's is the same for all of them. */
  function botHoldMs(chatId: number, ms: number): number {
    const now = performance.now();
    refused.set(chatId, { at: now, ms });
    for (const [chat, { at }] of refused) if (now - at > AT_ONCE_MS) refused.delete(chat);
    if (refused.size < CHATS_THAT_MEAN_THE_BOT) return 0;
    return Math.min(MAX_BOT_HOLD_MS, ...[...refused.values()].map((refusal) => refusal.ms));
  }

  async function hasRoomForAction(chatId: number): Promise<boolean> {
    const wish = { wanted: 1, horizonMs: 0 };
    const given = await actions.reserve([
      { ...wish, line: `chat:${chatId}`, intervalMs: chatIntervalMs, maxWaitMs: 0 },
      { ...wish, line: BOT_LINE, intervalMs, maxWaitMs: ACTION_BURST_MS },
    ]);
    return given.every(({ granted }) => granted === 1);
  }
}

function comeBackIn(ms: number): Admission {
  return { admitted: false, retryAfterSeconds: Math.max(1, Math.ceil(ms / 1_000)) };
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return delay(ms, undefined, signal === undefined ? {} : { signal });
}
