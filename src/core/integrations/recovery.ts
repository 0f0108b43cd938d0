import type { Updateable } from "kysely";
import { isForeignKeyViolation } from "../platform/db.ts";
import type { Connections } from "../platform/schema.ts";
import { planRefresh } from "./backoff.ts";
import type { Connection } from "./connection.ts";
import { type AskedBy, recordEvent } from "./events.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { forgetTokens, readNewestTokens } from "./kept-tokens.ts";
import { type Held, withLease } from "./lease.ts";
import type { ConnectionKey } from "./store.ts";
import type { TokenSet } from "./token-set.ts";

const PATIENCE_MS = 30_000;

/** A connection with the tokens that count. */
export type WithTokens = { connection: Connection; tokens: TokenSet };

/** What a connection becomes with new tokens, after whatever it was before. */
export function tokensPromoted(
  before: Connection,
  { tokens, version, now }: { tokens: TokenSet; version: string; now: Date },
) {
  const accessExpiresAt = tokens.accessExpiresAt === null ? null : new Date(tokens.accessExpiresAt);
  const isRenewable = tokens.refreshToken !== null;
  return {
    state: "active",
    reason: null,
    ...(before.state === "active" ? {} : { stateChangedAt: now }),
    secretVersion: version,
    secretFence: tokens.fence,
    accessExpiresAt,
    hasRefreshToken: isRenewable,
    refreshedAt: now,
    // What can't be renewed is looked at when it ends.
    refreshAt: isRenewable ? planRefresh(now, accessExpiresAt) : accessExpiresAt,
    triedAt: now,
    attempts: 0,
    trouble: null,
    waitUntil: null,
  } satisfies Updateable<Connections>;
}

/**
 * Promotes what an earlier holder of the lease had written and was cut off from promoting, or wrote after it was overtaken: newer tokens
 * of the same grant. Without this, a refresh token would be spent whose successor lies in the vault (F76).
 * @returns undefined when there is nothing of the kind, `overtaken` when somebody else has the lease by now.
 */
export async function recoverTokens(
  ctx: IntegrationsContext,
  held: Held,
  connection: Connection,
  askedBy: AskedBy,
): Promise<WithTokens | "overtaken" | undefined> {
  const begun = performance.now();
  const newest = await readNewestTokens(ctx.vault, held.key);
  if (newest === undefined || newest.version === connection.secretVersion) return undefined;
  const { tokens, version } = newest;
  const isLater = connection.secretFence < tokens.fence && tokens.fence <= held.fence;
  if (tokens.grantId !== connection.grantId || !isLater) return undefined;
  const now = ctx.clock.now();
  const change = tokensPromoted(connection, { tokens, version, now });
  const event = { ...held.key, at: now, kind: "refresh", askedBy, outcome: "recovered" } as const;
  const durationMs = Math.round(performance.now() - begun);
  const isDone = await held.promote(change, (tx) => recordEvent(tx, { ...event, durationMs }));
  return isDone ? { connection: { ...connection, ...change }, tokens } : "overtaken";
}

/**
 * For one who has written tokens and found itself overtaken. Newer tokens of a grant that still counts are promoted after all, even if it
 * was taken for dead meanwhile; what was written after a disconnect is deleted.
 */
export async function settleOvertaken(ctx: IntegrationsContext, key: ConnectionKey, askedBy: AskedBy): Promise<void> {
  ctx.log.warn({ ...key }, "somebody else went on with a connection while its tokens were renewed");
  try {
    await withLease(ctx, key, { patienceMs: PATIENCE_MS }, async (held) => {
      const { connection } = held;
      if (connection !== undefined && connection.state !== "revoked") {
        await recoverTokens(ctx, held, connection, askedBy);
        return;
      }
      // While the provider is still to be told, they are needed for that, and whoever tells it deletes them.
      if ((connection?.revokeAt ?? null) === null && (await held.secure())) await forgetTokens(ctx.vault, key);
    });
  } catch (error) {
    // The tenant was purged meanwhile: there is nothing left to have a lease of.
    if (!isForeignKeyViolation(error)) throw error;
    await forgetTokens(ctx.vault, key);
  }
}
