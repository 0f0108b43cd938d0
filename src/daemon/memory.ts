import { PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** Both halves of the space for what has just been allocated. */
const YOUNG_BYTES = 32 * 2 ** 20;

/**
 * Collects garbage before the heap has grown by a third, and keeps the young part of it small. Left alone, V8 lets it grow
 * fourfold on a machine with much memory: measured at full load with a thousand chats, 400 to 500 MiB instead of 240, for
 * 3 % less CPU.
 */
export function keepHeapSmall(): void {
  setFlagsFromString("--heap-growing-percent=30");
  // Its size can be limited only before a process starts; its growth can be ended at any time.
  const collections = new PerformanceObserver(() => {
    const young = getHeapSpaceStatistics().find((space) => space.space_name === "new_space");
    if (young === undefined || young.space_size < YOUNG_BYTES) return;
    setFlagsFromString("--semi-space-growth-factor=1");
    collections.disconnect();
  });
  collections.observe({ entryTypes: ["gc"] });
}
