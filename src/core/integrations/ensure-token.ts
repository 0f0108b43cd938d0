import { addMs } from "../platform/clock.ts";
import { OpenClawError } from "../platform/errors.ts";
import type { Connection } from "./connection.ts";
import { type Ask, decide, type Gone, remainingOf } from "./decision.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { readTokens } from "./kept-tokens.ts";
import { LEASE_PATIENCE_MS, type Renewal, renewConnection } from "./refresh.ts";
import * as store from "./store.ts";
import type { ConnectionKey } from "./store.ts";

export type TokenAnswer =
  | {
      kind: "token";
      accessToken: string;
      /** Null: the provider did not say, or it does not expire. */
      expiresAt: Date | null;
      scopes: string[];
      account: string | null;
      renewed: boolean;
    }
  | Gone
  /** Now; asking again at `retryAt` may help. */
  | { kind: "unavailable"; code: string; retryAt: Date };

/** With less than that left, a token is of no use to whoever gets it. */
const USEFUL_MS = 10_000;
/** Who could be given the token that is there does not wait longer for a newer one. */
const SHORT_PATIENCE_MS = 5_000;
const LOOKS = 3;

/**
 * An access token that holds for `minRemainingMs`, renewed if need be. Of all who ask at once, in whatever process, one refreshes, and
 * the others get what came of it. Who can't have a newer one in time gets the one that is there while that is of use.
 */
export async function ensureToken(
  ctx: IntegrationsContext,
  key: ConnectionKey,
  { signal, ...ask }: Ask & { signal: AbortSignal },
): Promise<TokenAnswer> {
  for (let look = 1; ; look++) {
    signal.throwIfAborted();
    const standing = await store.findStanding(ctx.db, key);
    const verdict = decide(standing, ask, undefined, ctx.clock.now());
    const renewal =
      verdict.kind === "renew" ? await awaitRenewal(ctx, key, ask, verdict.standing.connection, signal) : verdict;
    const answer = await answerWith(ctx, key, renewal);
    if (answer !== undefined) return answer;
    // It was disconnected, or connected anew, between the two looks.
    if (look === LOOKS)
      return { kind: "unavailable", code: "tokens_missing", retryAt: addMs(ctx.clock.now(), USEFUL_MS) };
  }
}

/** Waits for a renewal, which goes on in any case, for as long as it is worth it. */
async function awaitRenewal(
  ctx: IntegrationsContext,
  key: ConnectionKey,
  ask: Ask,
  connection: Connection,
  signal: AbortSignal,
): Promise<Renewal> {
  const hasUse = remainingOf(connection, ctx.clock.now()) > USEFUL_MS;
  const limit = AbortSignal.any([signal, AbortSignal.timeout(hasUse ? SHORT_PATIENCE_MS : LEASE_PATIENCE_MS)]);
  const given = Promise.withResolvers<Renewal>();
  const giveUp = () =>
    given.resolve({ kind: "unavailable", code: "connection_busy", retryAt: ctx.clock.now(), connection });
  limit.addEventListener("abort", giveUp);
  try {
    return await Promise.race([renewConnection(ctx, key, ask), given.promise]);
  } finally {
    limit.removeEventListener("abort", giveUp);
    signal.throwIfAborted();
  }
}

/** Undefined: the tokens that should be there are not, or are over by now. */
async function answerWith(
  { vault, clock, log }: IntegrationsContext,
  key: ConnectionKey,
  renewal: Renewal,
): Promise<TokenAnswer | undefined> {
  switch (renewal.kind) {
    case "gone":
      return renewal;
    case "renewed":
      // A refresh that was joined when it had been under way for long.
      if (remainingOf(renewal.connection, clock.now()) <= 0) return undefined;
      return tokenOf(renewal.connection, renewal.tokens.accessToken, true);
    case "unavailable": {
      const { code, retryAt, connection } = renewal;
      if (remainingOf(connection, clock.now()) <= USEFUL_MS) return { kind: "unavailable", code, retryAt };
      break;
    }
    case "present":
      break;
  }
  try {
    const tokens = await readTokens(vault, renewal.connection);
    return tokens && tokenOf(renewal.connection, tokens.accessToken, false);
  } catch (error) {
    // A vault that does not answer is one more trouble that passes.
    if (!(error instanceof OpenClawError)) throw error;
    log.warn({ error, ...key }, "the tokens of a connection could not be read");
    return { kind: "unavailable", code: error.code, retryAt: addMs(clock.now(), USEFUL_MS) };
  }
}

function tokenOf(connection: Connection, accessToken: string, renewed: boolean): TokenAnswer {
  const { accessExpiresAt: expiresAt, scopes, accountEmail: account } = connection;
  return { kind: "token", accessToken, expiresAt, scopes, account, renewed };
}
