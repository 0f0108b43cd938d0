import type { Arrival } from "./runtimes.ts";

export type Verdict = {
  delivered: number;
  /** Accepted with a 200, and never seen by a runtime. */
  lost: number;
  /** Chats in which the first arrivals are not in the order of sending. */
  chatsOutOfOrder: number;
  duplicates: number;
  /** More than the one in flight for each chat and kill. */
  duplicatesUnexplained: number;
};

/** `sent` holds the update ids of each chat in the order of sending, `killedAt` the moments of the kills, ascending. */
export function judge(
  sent: ReadonlyMap<number, readonly number[]>,
  arrivals: readonly Arrival[],
  killedAt: readonly number[],
): Verdict {
  const verdict: Verdict = { delivered: 0, lost: 0, chatsOutOfOrder: 0, duplicates: 0, duplicatesUnexplained: 0 };
  for (const [chat, updateIds] of sent) {
    const lastSeen = new Map<number, number>();
    const repeatedOver = new Set<number>();
    for (const { updateId, at } of arrivals.filter((arrival) => arrival.chat === chat)) {
      const before = lastSeen.get(updateId);
      lastSeen.set(updateId, at);
      if (before === undefined) continue;
      verdict.duplicates += 1;
      const kill = killedAt.findIndex((moment) => before <= moment && moment <= at);
      if (kill < 0 || repeatedOver.has(kill)) verdict.duplicatesUnexplained += 1;
      repeatedOver.add(kill);
    }
    const order = [...lastSeen.keys()];
    verdict.delivered += order.length;
    verdict.lost += updateIds.filter((updateId) => !lastSeen.has(updateId)).length;
    const expected = updateIds.filter((updateId) => lastSeen.has(updateId));
    if (expected.some((updateId, index) => order[index] !== updateId)) verdict.chatsOutOfOrder += 1;
  }
  return verdict;
}
