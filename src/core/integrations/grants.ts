import { sql } from "kysely";
import type { Account, Provider, TokenReply } from "../adapters/oauth/oauth-provider.ts";
import type { Db } from "../platform/db.ts";
import type { Connection } from "./connection.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import type { EventOutcome } from "./events.ts";
import type { TokenSet } from "./token-set.ts";

/** A grant that may be kept. */
export type Granted = { reply: TokenReply; account: Account | undefined; scopes: readonly string[] };

/** What tells grants at a provider apart: whose client, and by which account. */
export type Grant = Pick<Connection, "tenantId" | "client" | "accountSubject">;

/**
 * Whether a living connection of anybody stands on that grant: revoking one token of it would end them all (F77). Where no account
 * is known, connections of one tenant by one client are taken to share.
 */
async function isGrantShared(db: Db, grant: Grant): Promise<boolean> {
  const { rows } = await sql`SELECT FROM connections WHERE ${standsOn(grant)} LIMIT 1`.execute(db);
  return rows.length > 0;
}

function standsOn({ tenantId, client, accountSubject }: Grant) {
  // The index finds what is equal, and not what is not distinct.
  const isSame =
    accountSubject === null
      ? sql`account_subject IS NULL AND tenant_id = ${tenantId}`
      : sql`account_subject = ${accountSubject}`;
  return sql<boolean>`client = ${client} AND ${isSame} AND state IN ('active', 'error')`;
}

/** Whoever connected while the provider was told has what may be over: that is found out now, and not when it is due. */
async function doubtLatecomers({ db, clock }: GrantContext, grant: Grant): Promise<void> {
  await db
    .updateTable("connections")
    .set({ refreshAt: clock.now() })
    .where(standsOn(grant))
    .where("hasRefreshToken", "=", true)
    .execute();
}

/** How a grant was ended: `shared`: it was not, for others stand on it; `impossible`: it lives on, and nobody can end it from here. */
export type Revocation =
  | { kind: "revoked" | "shared" | "impossible" }
  | { kind: "failed"; code: string; retryAfterMs: number | undefined };

type GrantContext = Pick<IntegrationsContext, "db" | "clock">;

/** Tells the provider that a grant is over, unless a living connection stands on it. Nothing is recorded here. */
export async function revokeGrant(
  ctx: GrantContext,
  provider: Provider | undefined,
  { grant, tokens }: { grant: Grant; tokens: Pick<TokenSet, "accessToken" | "refreshToken"> | undefined },
  signal: AbortSignal,
): Promise<Revocation> {
  if (await isGrantShared(ctx.db, grant)) return { kind: "shared" };
  if (tokens === undefined) return { kind: "impossible" };
  // Not configured here, it may be so elsewhere, or soon again.
  if (provider === undefined) return failed("provider_unknown");
  if (provider.definition.revokeUrl === undefined) return { kind: "impossible" };
  if (provider.client === undefined) return failed("client_missing");
  const result = await provider.client.revoke(tokens.refreshToken ?? tokens.accessToken, signal);
  // Also when no answer came: it may have taken effect.
  await doubtLatecomers(ctx, grant);
  if (result.kind === "revoked") return { kind: "revoked" };
  return failed(result.code, result.kind === "unavailable" ? result.retryAfterMs : undefined);
}

function failed(code: string, retryAfterMs?: number): Revocation {
  return { kind: "failed", code, retryAfterMs };
}

/** Of one that is not tried again. */
export function outcomeOf({ kind }: Revocation): EventOutcome {
  return kind === "failed" || kind === "impossible" ? "failed" : "done";
}
