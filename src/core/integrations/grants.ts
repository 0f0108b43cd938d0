import { sql } from "kysely";
import type { Provider } from "../adapters/oauth/oauth-provider.ts";
import type { Db } from "../platform/db.ts";
import type { Connection } from "./connection.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import type { EventOutcome } from "./events.ts";
import type { TokenSet } from "./token-set.ts";

/** One consent, with what tells grants at a provider apart: whose client, and by which account. */
export type Grant = Pick<Connection, "grantId" | "tenantId" | "provider" | "client" | "accountSubject">;

/** How a grant was ended: `shared`: it was not, for others stand on it; `impossible`: it lives on, and nobody can end it from here. */
export type Revocation =
  | { kind: "revoked" | "shared" }
  | { kind: "impossible"; code: "no_revocation" | "tokens_missing" }
  | { kind: "failed"; code: string; retryAfterMs: number | undefined };

type GrantContext = Pick<IntegrationsContext, "db" | "clock">;

/** Whether a living connection came of that very consent. */
export async function isGrantInUse(db: Db, { tenantId, provider, grantId }: Grant): Promise<boolean> {
  const row = await db
    .selectFrom("connections")
    .select("grantId")
    .where("tenantId", "=", tenantId)
    .where("provider", "=", provider)
    .where("grantId", "=", grantId)
    .where("state", "<>", "revoked")
    .executeTakeFirst();
  return row !== undefined;
}

/**
 * Tells the provider that a grant is over, unless a living connection of anybody stands on it: where a provider has one grant for all
 * consents of an account, revoking one token of it would end them all (F77). Nothing is recorded here.
 */
export async function revokeGrant(
  ctx: GrantContext,
  provider: Provider | undefined,
  { grant, readTokens }: { grant: Grant; readTokens: () => Promise<TokenSet | undefined> },
  signal: AbortSignal,
): Promise<Revocation> {
  // Not configured here, it may be so elsewhere, or soon again.
  if (provider === undefined) return failed("provider_unknown");
  const { sharesGrant, revokeUrl } = provider.definition;
  if (sharesGrant && (await isGrantShared(ctx, grant))) return { kind: "shared" };
  if (revokeUrl === undefined) return { kind: "impossible", code: "no_revocation" };
  const tokens = await readTokens();
  if (tokens === undefined) return { kind: "impossible", code: "tokens_missing" };
  if (provider.client === undefined) return failed("client_missing");
  const result = await provider.client.revoke(tokens.refreshToken ?? tokens.accessToken, signal);
  // Also when no answer came: it may have taken effect.
  if (sharesGrant) await doubtLatecomers(ctx, grant);
  if (result.kind === "revoked") return { kind: "revoked" };
  return failed(result.code, result.kind === "unavailable" ? result.retryAfterMs : undefined);
}

export function failed(code: string, retryAfterMs?: number): Extract<Revocation, { kind: "failed" }> {
  return { kind: "failed", code, retryAfterMs };
}

/** Also by a consent that is under way: if no connection comes of it, it is ended in its turn. */
async function isGrantShared({ db, clock }: GrantContext, grant: Grant): Promise<boolean> {
  const { rows } = await sql`
    SELECT FROM connections WHERE ${standsOn(grant)}
    UNION ALL SELECT FROM grants_to_end WHERE ${isUnderWay(grant, clock.now())} LIMIT 1`.execute(db);
  return rows.length > 0;
}

function standsOn(grant: Grant) {
  return sql<boolean>`${isSameGrant(grant)} AND state IN ('active', 'error')`;
}

function isUnderWay(grant: Grant, now: Date) {
  return sql<boolean>`${isSameGrant(grant)} AND grant_id <> ${grant.grantId} AND attempts = 0 AND try_at > ${now}`;
}

/** Where an account is not known, consents of one tenant by one client are taken to share. */
function isSameGrant({ tenantId, client, accountSubject }: Grant) {
  // So that each side of it is found by an index.
  const isSame =
    accountSubject === null
      ? sql`tenant_id = ${tenantId}`
      : sql`(account_subject = ${accountSubject} OR account_subject IS NULL AND tenant_id = ${tenantId})`;
  return sql<boolean>`client = ${client} AND ${isSame}`;
}

/**
 * Whoever connected while the provider was told has what may be over: that is found out now, and not when it is due. First of all, no
 * connection is made any more of a consent that is under way.
 */
async function doubtLatecomers({ db, clock }: GrantContext, grant: Grant): Promise<void> {
  const now = clock.now();
  await db
    .updateTable("grantsToEnd")
    .set((eb) => ({ attempts: eb("attempts", "+", 1) }))
    .where(isUnderWay(grant, now))
    .execute();
  await db
    .updateTable("connections")
    .set({ refreshAt: now })
    .where(standsOn(grant))
    .where("hasRefreshToken", "=", true)
    .execute();
}

/** Of one that is not tried again. */
export function outcomeOf({ kind }: Revocation): EventOutcome {
  return kind === "failed" || kind === "impossible" ? "failed" : "done";
}
