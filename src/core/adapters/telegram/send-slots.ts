/**
 * Slots in time, one after the other at a fixed distance: a chat has a line of them, and so has the bot. What is kept of a
 * line is when its next free slot is.
 */
export type SlotWish = {
  line: string;
  intervalMs: number;
  /** How many slots are wanted at most. Only those within `horizonMs` are given, but always the first. */
  wanted: number;
  horizonMs: number;
  /** Nothing is given when the first slot is further off. */
  maxWaitMs: number;
  /** Nothing is given unless the wish before it was given a slot at once. */
  isLinked?: boolean;
};

/** `granted` slots, the first in `waitMs`. Without any, `waitMs` says how far off the first one is. */
export type Slots = { waitMs: number; granted: number };

export type SendSlots = {
  /** One answer for each wish, in their order. Never rejects. */
  reserve(wishes: readonly SlotWish[]): Promise<Slots[]>;
  /** Gives no slot of a line for so long. */
  hold(line: string, ms: number): Promise<void>;
  /** Whether the limits are kept together with the other daemons right now. */
  isShared(): boolean;
};

const SWEEP_MS = 10_000;

/** Slots of this process alone. `divisor` is how many processes share the limits: each keeps to its part of them. */
export function createMemorySlots(divisor: () => Promise<number>): SendSlots {
  const nextFree = new Map<string, number>();
  let sweptAt = performance.now();

  function sweep(now: number): void {
    if (now - sweptAt < SWEEP_MS) return;
    sweptAt = now;
    for (const [line, free] of nextFree) if (free <= now) nextFree.delete(line);
  }

  return {
    isShared: () => false,
    async reserve(wishes) {
      const parts = await divisor();
      const now = performance.now();
      sweep(now);
      let isAtOnce = true;
      return wishes.map((wish) => {
        if (wish.isLinked === true && !isAtOnce) return { waitMs: 0, granted: 0 };
        const intervalMs = wish.intervalMs * parts;
        const free = Math.max(now, nextFree.get(wish.line) ?? 0);
        const waitMs = free - now;
        isAtOnce = waitMs === 0;
        if (waitMs > wish.maxWaitMs) return { waitMs, granted: 0 };
        const within = Math.floor((wish.horizonMs - waitMs) / intervalMs) + 1;
        const granted = Math.min(wish.wanted, Math.max(1, within));
        nextFree.set(wish.line, free + granted * intervalMs);
        return { waitMs, granted };
      });
    },
    async hold(line, ms) {
      nextFree.set(line, Math.max(nextFree.get(line) ?? 0, performance.now() + ms));
    },
  };
}
