import type { Connection } from "./connection.ts";
import { isAtRest } from "./diagnosis.ts";
import { mayBeTriedAt } from "./backoff.ts";
import type { Standing } from "./store.ts";

/** Who wants a token, and for how long it has to hold at least. A sweep wants what is due instead. */
export type Ask = { askedBy: "sweep" | "runtime" | "operator"; minRemainingMs: number };

/** There is no token, and asking again does not help. */
export type Gone = { kind: "gone"; state: "expired" | "revoked" | "absent" | "at-rest"; reason: string | null };

export type Verdict =
  | Gone
  /** The token that is there will do. */
  | { kind: "present"; connection: Connection }
  /** It can't be renewed before `retryAt`. */
  | { kind: "unavailable"; code: string; retryAt: Date; connection: Connection }
  | { kind: "renew"; standing: Standing };

/**
 * What is to be done for somebody who asks. `first`: the connection as it was when the asking began; what others have done since, or
 * failed to do, counts for this one too, so that many who ask at once cause one refresh.
 */
export function decide(standing: Standing | undefined, ask: Ask, first: Connection | undefined, now: Date): Verdict {
  if (standing === undefined) return { kind: "gone", state: "absent", reason: null };
  const { connection, tenantStatus, clientTrouble } = standing;
  const { state, reason, trouble, waitUntil } = connection;
  if (state === "revoked") return { kind: "gone", state, reason };
  if (isAtRest({ status: tenantStatus })) return { kind: "gone", state: "at-rest", reason: null };
  if (state === "expired") return { kind: "gone", state, reason };
  const present = { kind: "present", connection } as const;
  const remainingMs = remainingOf(connection, now);
  if (first !== undefined && first.secretVersion !== connection.secretVersion && remainingMs > 0) return present;
  if (!isWanted(connection, ask, now)) return present;
  if (!connection.hasRefreshToken) return remainingMs > 0 ? present : { kind: "renew", standing };
  const refuse = (code: string, retryAt: Date) => ({ kind: "unavailable", code, retryAt, connection }) as const;
  const failed = connection.attempts > 0 ? connection.triedAt : null;
  if (failed !== null) {
    const mayBeAt = mayBeTriedAt(failed, waitUntil);
    const wasJustTried = first !== undefined && first.triedAt?.getTime() !== failed.getTime();
    const isTooSoon = ask.askedBy === "runtime" ? mayBeAt > now : waitUntil !== null && waitUntil > now;
    if (wasJustTried || (isTooSoon && ask.askedBy !== "operator")) return refuse(trouble ?? "unavailable", mayBeAt);
  }
  // An operator may have mended it just now.
  if (clientTrouble !== undefined && clientTrouble.probeAt > now && ask.askedBy !== "operator") {
    return refuse("client_refused", clientTrouble.probeAt);
  }
  return { kind: "renew", standing };
}

/** How long the access token holds, in ms; infinite when it does not expire. */
export function remainingOf({ accessExpiresAt }: Connection, now: Date): number {
  return accessExpiresAt === null ? Number.POSITIVE_INFINITY : accessExpiresAt.getTime() - now.getTime();
}

/** Whether the token that is there will not do. One that lives briefly is not renewed in the first half of its life. */
function isWanted(connection: Connection, { askedBy, minRemainingMs }: Ask, now: Date): boolean {
  const { refreshAt, refreshedAt, connectedAt, accessExpiresAt } = connection;
  if (askedBy === "sweep") return refreshAt !== null && refreshAt <= now;
  if (askedBy === "operator" || accessExpiresAt === null) return remainingOf(connection, now) < minRemainingMs;
  const lifeMs = accessExpiresAt.getTime() - (refreshedAt ?? connectedAt).getTime();
  return remainingOf(connection, now) <= Math.min(minRemainingMs, Math.max(0, lifeMs) / 2);
}
