import { setFlagsFromString } from "node:v8";

/**
 * Collects garbage before the heap has grown by a third. Left alone, V8 lets it grow fourfold on a machine with much
 * memory: measured at full load with a thousand chats, 400 to 500 MiB instead of 280, for 3 % less CPU.
 */
export function keepHeapSmall(): void {
  setFlagsFromString("--heap-growing-percent=30");
}
