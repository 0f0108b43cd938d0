import type { Vault } from "../adapters/vault/vault.ts";
import { writeAudit } from "../platform/audit.ts";
import { ConflictError, UpstreamError } from "../platform/errors.ts";
import { planRetry, planWait } from "./backoff.ts";
import type { Connection } from "./connection.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { type AskedBy, recordEvent } from "./events.ts";
import { outcomeOf, revokeGrant, type Revocation } from "./grants.ts";
import { forgetTokens, readNewestTokens, readTokens } from "./kept-tokens.ts";
import type { Held } from "./lease.ts";
import type { ConnectionKey } from "./store.ts";
import type { TokenSet } from "./token-set.ts";

/** `pending`: the provider is told later, and until then the tokens are kept. `impossible`: it can't be told from here. */
export type Ended = { revocation: "revoked" | "shared" | "pending" | "impossible" };

export type Ending = {
  askedBy: AskedBy;
  /** From then on the tokens go even if the provider could not be told. */
  giveUpAt: Date;
  signal: AbortSignal;
};

/**
 * Ends what is left of a connection that is revoked already: tells the provider, unless others stand on the grant (F77), then deletes
 * the tokens and reads back that they are gone. May be repeated from wherever it broke off.
 */
export async function endGrant(
  ctx: IntegrationsContext,
  held: Held,
  connection: Connection,
  ending: Ending,
): Promise<Ended> {
  const startedAt = performance.now();
  const tokens = await findTokens(ctx.vault, connection);
  // Whoever was overtaken might end the grant of somebody who connected anew.
  if (!(await held.secure())) throw overtaken(held.key);
  const provider = ctx.providers.find(connection.provider);
  const revocation = await revokeGrant(ctx, provider, { grant: connection, tokens }, ending.signal);
  const isLate = ctx.clock.now() >= ending.giveUpAt;
  if (revocation.kind === "failed" && !isLate) {
    await postpone(ctx, held, connection, { revocation, ending, startedAt });
    return { revocation: "pending" };
  }
  await deleteTokens(ctx.vault, held);
  const outcome = await held.promote({ revokeAt: null }, (tx) =>
    note(ctx, tx, held.key, { revocation, ending, startedAt }),
  );
  if (!outcome) throw overtaken(held.key);
  return { revocation: revocation.kind === "failed" ? "impossible" : revocation.kind };
}

/** Of a refresh that was cut off before its tokens counted, the newest are those that still end the grant. */
async function findTokens(vault: Vault, { tenantId, provider, ...its }: Connection): Promise<TokenSet | undefined> {
  const key = { tenantId, provider };
  const newest = await readNewestTokens(vault, key);
  if (newest === undefined || newest.tokens.grantId === its.grantId) return newest?.tokens;
  return readTokens(vault, key, its.secretVersion);
}

type Noted = { revocation: Revocation; ending: Ending; startedAt: number };

async function postpone(ctx: IntegrationsContext, held: Held, connection: Connection, noted: Noted): Promise<void> {
  const { revocation } = noted;
  const now = ctx.clock.now();
  const attempts = connection.revokeAttempts + 1;
  const waitUntil = planWait(now, revocation.kind === "failed" ? revocation.retryAfterMs : undefined);
  const retryAt = planRetry(now, { attempts, waitUntil }, ctx.random ?? Math.random);
  const isNoted = await held.promote({ revokeAt: retryAt, revokeAttempts: attempts }, (tx) =>
    note(ctx, tx, held.key, noted, retryAt),
  );
  if (!isNoted) throw overtaken(held.key);
}

async function note(
  ctx: IntegrationsContext,
  tx: IntegrationsContext["db"],
  key: ConnectionKey,
  { revocation, ending, startedAt }: Noted,
  retryAt: Date | null = null,
): Promise<void> {
  const code = revocation.kind === "failed" ? revocation.code : revocation.kind;
  // Beyond the tenant's own records, which a purge takes along.
  if (revocation.kind === "failed" && retryAt === null) await auditGivenUp(ctx, tx, key, code);
  await recordEvent(tx, {
    ...key,
    at: ctx.clock.now(),
    kind: "revoke",
    askedBy: ending.askedBy,
    outcome: retryAt === null ? outcomeOf(revocation) : "unavailable",
    code,
    durationMs: Math.round(performance.now() - startedAt),
    retryAt,
  });
}

async function auditGivenUp(
  ctx: IntegrationsContext,
  tx: IntegrationsContext["db"],
  { tenantId, provider }: ConnectionKey,
  code: string,
): Promise<void> {
  const entry = { at: ctx.clock.now(), actor: ctx.actor, tenantId, detail: { provider, code } };
  await writeAudit(tx, { ...entry, action: "connection.revocation-given-up" });
}

/** All versions at once: whoever is no longer sure of the lease might delete those of somebody who connects anew. */
export async function deleteTokens(vault: Vault, held: Held): Promise<void> {
  if (!(await held.secure())) throw overtaken(held.key);
  await forgetTokens(vault, held.key);
  if ((await readNewestTokens(vault, held.key)) === undefined) return;
  throw new UpstreamError(
    "tokens_not_deleted",
    "The tokens of a connection are still in the vault after their deletion.",
    {
      service: "vault",
      retryable: true,
    },
  );
}

export function overtaken({ provider }: ConnectionKey): ConflictError {
  return new ConflictError("connection_busy", `The connection to ${provider} was changed by somebody else. Try again.`);
}
