import type { Arrival } from "../load/runtimes.ts";

export type Verdict = {
  delivered: number;
  /** Accepted with a 200, and never seen by a runtime. */
  lost: number;
  /** Chats in which the first arrivals are not in the order of sending. */
  chatsOutOfOrder: number;
  duplicates: number;
  /** More than the one that may be in flight for each chat and kill. */
  duplicatesUnexplained: number;
};

/**
 * From a kill until nothing is in flight any more because of it: what was killed is back, and leases that ran out meanwhile
 * have found new owners.
 */
export type Outage = { fromMicros: number; toMicros: number };

/** `sent` holds the update ids of each chat in the order of sending. */
export function judge(
  sent: ReadonlyMap<number, readonly number[]>,
  arrivals: readonly Arrival[],
  outages: readonly Outage[],
): Verdict {
  const verdict: Verdict = { delivered: 0, lost: 0, chatsOutOfOrder: 0, duplicates: 0, duplicatesUnexplained: 0 };
  for (const [chat, updateIds] of sent) {
    const lastSeen = new Map<number, number>();
    const repeatedOver = new Set<Outage>();
    for (const { updateId, atMicros: at } of arrivals.filter((arrival) => arrival.chat === chat)) {
      const before = lastSeen.get(updateId);
      lastSeen.set(updateId, at);
      if (before === undefined) continue;
      verdict.duplicates += 1;
      const outage = outages.find((one) => one.fromMicros <= at && before <= one.toMicros && !repeatedOver.has(one));
      if (outage === undefined) verdict.duplicatesUnexplained += 1;
      else repeatedOver.add(outage);
    }
    const order = [...lastSeen.keys()];
    verdict.delivered += order.length;
    verdict.lost += updateIds.filter((updateId) => !lastSeen.has(updateId)).length;
    const expected = updateIds.filter((updateId) => lastSeen.has(updateId));
    if (expected.some((updateId, index) => order[index] !== updateId)) verdict.chatsOutOfOrder += 1;
  }
  return verdict;
}
