import type { Outcome } from "./inbox.ts";

/** Why a try at an update came to nothing for now; a fixed list, so that it can be a metric's label. */
export type DeferReason = "preparing" | "waking" | "runtime-unavailable" | "runtime-broke" | "telegram-unreachable";

/** What the router tells whoever counts what comes after acceptance. No chat, tenant or text: those belong in the log. */
export type RouterObserver = {
  /** Told once for each update that this process finished; `sinceCommitMs` only if it accepted the update as well. */
  finished(outcome: Outcome, latency: { sinceAcceptedMs: number; sinceCommitMs: number | undefined }): void;
  /** Somebody else's lease forbade finishing: whoever holds the shard does it again. */
  fenced(): void;
  deferred(reason: DeferReason): void;
  shardsLost(count: number): void;
};

export const noObserver: RouterObserver = {
  finished: () => undefined,
  fenced: () => undefined,
  deferred: () => undefined,
  shardsLost: () => undefined,
};
