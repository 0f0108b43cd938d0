import { systemClock } from "../../../../platform/clock.ts";

export function nowText(): string {
  return systemClock.now().toISOString();
}
