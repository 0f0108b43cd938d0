import type { OAuthClient, TokenReply } from "../adapters/oauth/oauth-provider.ts";
import { addMs } from "../platform/clock.ts";
import { mayBeTriedAt, planRetry, planWait } from "./backoff.ts";
import type { Connection } from "./connection.ts";
import type { Ask, Gone } from "./decision.ts";
import type { ConnectionEvent } from "./events.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { keepTokens, proveVault, readTokens } from "./kept-tokens.ts";
import type { Held } from "./lease.ts";
import { enqueueConnectionNews } from "./news.ts";
import { NO_TROUBLE, promoteNoted, recoverTokens, tokensPromoted, type WithTokens } from "./recovery.ts";
import * as store from "./store.ts";
import type { TokenSet } from "./token-set.ts";

/** A refresh by one who has the lease. */
export type Refresh = IntegrationsContext & { held: Held; ask: Ask; client: OAuthClient; begun: number };

/** Somebody else has the lease by now: nothing was changed. */
export type Overtaken = { kind: "overtaken" };
type Unavailable = { kind: "unavailable"; code: string; retryAt: Date; connection: Connection };
export type Spent = Gone | ({ kind: "renewed" } & WithTokens) | Unavailable | Overtaken;

/** What has been sent takes effect, so its answer is waited for, as long as the client waits. */
const never = new AbortController().signal;

/** Spends the refresh token, and deals with what comes of it. */
export async function spend(refresh: Refresh, connection: Connection, known: TokenSet | undefined): Promise<Spent> {
  const { vault, held, client, clock } = refresh;
  const tokens = known ?? (await readTokens(vault, connection));
  if (tokens === undefined) return fail(refresh, connection, { outcome: "failed", code: "tokens_missing" });
  if (tokens.refreshToken === null) return end(refresh, connection, "not_renewable");
  await proveVault(refresh, held.key, tokens);
  // Whoever was stopped for long may have been overtaken, and the other is at it.
  if (!(await held.secure())) return { kind: "overtaken" };
  const askedAt = clock.now();
  const result = await client.refresh(tokens.refreshToken, never);
  switch (result.kind) {
    case "granted":
      return keep(refresh, connection, { old: tokens, reply: result.reply, askedAt });
    case "dead":
      return bury(refresh, connection, result.code);
    case "client":
      return blameClient(refresh, connection, result.code);
    case "unavailable":
      return fail(refresh, connection, { outcome: "unavailable", ...result });
  }
}

/** Writes the new tokens, reads them back and has them count, in this order. */
async function keep(
  refresh: Refresh,
  connection: Connection,
  { old, reply, askedAt }: { old: TokenSet; reply: TokenReply; askedAt: Date },
): Promise<Spent> {
  const { held, clock } = refresh;
  const { accessToken, expiresInSeconds: seconds, scopes } = reply;
  const accessExpiresAt = seconds === undefined ? null : addMs(askedAt, seconds * 1_000).toISOString();
  const tokens: TokenSet = {
    fence: held.fence,
    grantId: connection.grantId,
    obtainedAt: askedAt.toISOString(),
    accessToken,
    accessExpiresAt,
    refreshToken: reply.refreshToken ?? old.refreshToken,
  };
  // Of a new refresh token there is no other copy.
  const insists = tokens.refreshToken !== old.refreshToken;
  const version = await keepTokens(refresh, held.key, tokens, { insists });
  const change = {
    ...tokensPromoted(connection, { tokens, version, now: clock.now() }),
    ...(scopes === undefined ? {} : { scopes: [...scopes] }),
  };
  if (!(await promoteNoted(refresh, held, change, eventOf(refresh, "done")))) return { kind: "overtaken" };
  return { kind: "renewed", connection: { ...connection, ...change }, tokens };
}

/** A grant that is called dead: if somebody has spent the token in between, and kept what came of it, it lives. */
async function bury(refresh: Refresh, connection: Connection, code: string): Promise<Spent> {
  const { held, ask } = refresh;
  const found = await recoverTokens(refresh, held, connection, ask.askedBy);
  if (found === "overtaken") return { kind: "overtaken" };
  if (found?.isRecovered === true) return { kind: "renewed", connection: found.connection, tokens: found.tokens };
  return end(refresh, connection, code === "invalid_grant" ? "grant_dead" : code, code);
}

/** Nothing but a new consent helps. */
async function end(refresh: Refresh, { grantId }: Connection, reason: string, code?: string) {
  const { held, clock } = refresh;
  const now = clock.now();
  const change = {
    state: "expired",
    reason,
    stateChangedAt: now,
    refreshAt: null,
    triedAt: now,
    ...NO_TROUBLE,
  } as const;
  const isEnded = await promoteNoted(refresh, held, change, eventOf(refresh, "dead", { code: code ?? reason }), (tx) =>
    enqueueConnectionNews(tx, { ...held.key, grantId, news: "expired" }),
  );
  return isEnded ? ({ kind: "gone", state: "expired", reason } as const) : ({ kind: "overtaken" } as const);
}

/** It is our client that is refused: nobody is disconnected, and few are tried until it is taken again. */
async function blameClient(refresh: Refresh, connection: Connection, code: string): Promise<Spent> {
  const { db, held, clock } = refresh;
  const now = clock.now();
  await store.noteClientTrouble(db, {
    provider: held.key.provider,
    code,
    now,
    probeAt: addMs(now, store.PROBE_EVERY_MS),
  });
  return fail(refresh, connection, { outcome: "client", code });
}

type Failure = { outcome: "unavailable" | "client" | "failed"; code: string; retryAfterMs?: number | undefined };

/** Nothing changes but when it is tried again (F73); with our client refused, the state says whose fault it is. */
export async function fail(
  refresh: Refresh,
  connection: Connection,
  failure: Failure,
): Promise<Unavailable | Overtaken> {
  const { held, clock, random = Math.random } = refresh;
  const { outcome, code } = failure;
  const now = clock.now();
  const attempts = connection.attempts + 1;
  const waitUntil = planWait(now, failure.retryAfterMs);
  const refreshAt = planRetry(now, { attempts, waitUntil }, random);
  const isBlamed = outcome === "client" && connection.state !== "error";
  const change = {
    attempts,
    trouble: code,
    triedAt: now,
    waitUntil,
    refreshAt,
    ...(isBlamed ? { state: "error" as const, reason: "client_refused", stateChangedAt: now } : {}),
  };
  const event = eventOf(refresh, outcome, { code, retryAt: refreshAt });
  const isNoted = await promoteNoted(refresh, held, change, event);
  if (!isNoted) return { kind: "overtaken" };
  const retryAt = mayBeTriedAt(now, waitUntil);
  return { kind: "unavailable", code, retryAt, connection: { ...connection, ...change } };
}

function eventOf(
  { held, ask, clock, begun }: Refresh,
  outcome: ConnectionEvent["outcome"],
  more: { code?: string; retryAt?: Date } = {},
): ConnectionEvent {
  const durationMs = Math.round(performance.now() - begun);
  return { ...held.key, at: clock.now(), kind: "refresh", askedBy: ask.askedBy, outcome, durationMs, ...more };
}
