import type { Updateable } from "kysely";
import { type Db, isForeignKeyViolation } from "../platform/db.ts";
import type { Connections } from "../platform/schema.ts";
import { planRefresh } from "./backoff.ts";
import type { Connection } from "./connection.ts";
import { type AskedBy, type ConnectionEvent, recordEvent } from "./events.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { endGrant } from "./end-grant.ts";
import { takeGrant } from "./grant-store.ts";
import { hasTokens, readNewestTokens } from "./kept-tokens.ts";
import { type Held, withLease } from "./lease.ts";
import type { TokenSet } from "./token-set.ts";

const PATIENCE_MS = 30_000;
const never = new AbortController().signal;

/** A connection with the tokens that count. */
export type WithTokens = { connection: Connection; tokens: TokenSet };

/** What a try that came to an end leaves behind of failures before it. */
export const NO_TROUBLE = { attempts: 0, trouble: null, waitUntil: null };

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
    refreshedAt: new Date(tokens.obtainedAt),
    // What can't be renewed is looked at when it ends.
    refreshAt: isRenewable ? planRefresh(now, accessExpiresAt) : accessExpiresAt,
    triedAt: now,
    ...NO_TROUBLE,
  } satisfies Updateable<Connections>;
}

/** Changes a connection, and records why. @returns false, having done neither, when this one was overtaken. */
export async function promoteNoted(
  { observe }: Pick<IntegrationsContext, "observe">,
  held: Held,
  change: Parameters<Held["promote"]>[0],
  event: ConnectionEvent,
  also?: (tx: Db) => Promise<void>,
): Promise<boolean> {
  const isDone = await held.promote(change, async (tx) => {
    await recordEvent(tx, event);
    await also?.(tx);
  });
  if (isDone) observe?.(event);
  return isDone;
}

/** The tokens that count, and whether they did not count before. */
export type Found = WithTokens & { isRecovered: boolean };

/**
 * Promotes what an earlier holder of the lease had written and was cut off from promoting, or wrote after it was overtaken: newer tokens
 * of its grant. Without this, a refresh token would be spent whose successor lies in the vault (F76). After a backup of the database
 * was put back, the vault is ahead of it in just that way, with fences that are still to come here.
 * @returns undefined when what was written last is neither that nor what counts already, `overtaken` when somebody else has the lease by
 * now.
 */
export async function recoverTokens(
  ctx: IntegrationsContext,
  held: Held,
  connection: Connection,
  askedBy: AskedBy,
): Promise<Found | "overtaken" | undefined> {
  const begun = performance.now();
  const newest = await readNewestTokens(ctx.vault, connection);
  if (newest === undefined) return undefined;
  const { tokens, version } = newest;
  if (version === connection.secretVersion) return { connection, tokens, isRecovered: false };
  if (tokens.fence <= connection.secretFence) return undefined;
  const now = ctx.clock.now();
  // What this one writes, and whoever comes after it, has to be later than what counts.
  const secretFence = Math.min(tokens.fence, held.fence - 1);
  const change = { ...tokensPromoted(connection, { tokens, version, now }), secretFence };
  const durationMs = Math.round(performance.now() - begun);
  const event = { ...held.key, at: now, kind: "refresh", askedBy, outcome: "recovered", durationMs } as const;
  return (await promoteNoted(ctx, held, change, event))
    ? { connection: { ...connection, ...change }, tokens, isRecovered: true }
    : "overtaken";
}

/**
 * For one who may have written tokens and found itself overtaken. Newer tokens of a grant that still counts are promoted after all, even
 * if it was taken for dead meanwhile; what was written of one that is over is ended with it, once more if need be.
 * @param connection - As it was when this one had the lease.
 */
export async function settleOvertaken(
  ctx: IntegrationsContext,
  connection: Connection,
  askedBy: AskedBy,
): Promise<void> {
  const { tenantId, provider } = connection;
  ctx.log.warn({ tenantId, provider }, "somebody else went on with a connection while its tokens were renewed");
  if (await settleLiving(ctx, connection, askedBy)) return;
  if (!(await hasTokens(ctx.vault, connection))) return;
  const grant = await takeGrant(ctx.db, connection, ctx.clock.now());
  await endGrant(ctx, grant, { askedBy, signal: never });
}

/** @returns whether the grant still counts. */
async function settleLiving(ctx: IntegrationsContext, before: Connection, askedBy: AskedBy): Promise<boolean> {
  const { tenantId, provider, grantId } = before;
  try {
    return await withLease(ctx, { tenantId, provider }, { patienceMs: PATIENCE_MS }, async (held) => {
      const { connection } = held;
      if (connection?.grantId !== grantId || connection.state === "revoked") return false;
      await recoverTokens(ctx, held, connection, askedBy);
      return true;
    });
  } catch (error) {
    // The tenant was purged meanwhile: there is nothing left to have a lease of.
    if (!isForeignKeyViolation(error)) throw error;
    return false;
  }
}
