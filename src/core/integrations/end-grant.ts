import { writeAudit } from "../platform/audit.ts";
import { addMs } from "../platform/clock.ts";
import { OpenClawError, UpstreamError } from "../platform/errors.ts";
import { planRetry, planWait } from "./backoff.ts";
import { type AskedBy, recordEventOfAnybody } from "./events.ts";
import { dropGrant, type GrantToEnd, updateGrant } from "./grant-store.ts";
import { failed, isGrantInUse, outcomeOf, revokeGrant, type Revocation } from "./grants.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { forgetTokens, hasTokens, keepTokens, readNewestTokens } from "./kept-tokens.ts";
import type { TokenSet } from "./token-set.ts";

/** A provider that can't be told for so long won't be told. */
const GIVE_UP_MS = 24 * 3_600_000;

/** `pending`: the provider is told later, and until then the tokens are kept. `impossible`: it can't be told from here. */
export type Ended = { revocation: "revoked" | "shared" | "pending" | "impossible" };

export type Ending = {
  askedBy: AskedBy;
  /** Of one whose tokens may not lie in the vault: they are kept there if it has to be tried again. */
  tokens?: TokenSet;
  signal: AbortSignal;
};

/**
 * Ends a grant that this one has taken up: tells the provider, unless others stand on it (F77), deletes the tokens and reads back that
 * they are gone. A provider that can't be told is tried again by the sweep for a day; then the tokens go all the same. May be repeated
 * from wherever it broke off.
 */
export async function endGrant(ctx: IntegrationsContext, grant: GrantToEnd, ending: Ending): Promise<Ended> {
  const startedAt = performance.now();
  if (await isGrantInUse(ctx.db, grant)) {
    // Its connection was made after all.
    await dropGrant(ctx.db, grant);
    return { revocation: "shared" };
  }
  const revocation = await tell(ctx, grant, ending);
  const giveUpAt = addMs(grant.since, GIVE_UP_MS);
  const now = ctx.clock.now();
  let retryAt: Date | null = null;
  if (revocation.kind === "failed" && now < giveUpAt) {
    if (ending.tokens !== undefined) await keepTokens(ctx, grant, ending.tokens, { insists: false });
    const waitUntil = planWait(now, revocation.retryAfterMs);
    const at = planRetry(now, { attempts: grant.attempts, waitUntil }, ctx.random ?? Math.random);
    retryAt = at < giveUpAt ? at : giveUpAt;
    await updateGrant(ctx.db, grant, { tryAt: retryAt });
  } else {
    await deleteTokens(ctx, grant);
    if (!(await strikeOff(ctx, grant, revocation))) return { revocation: "pending" };
  }
  const { tenantId, provider } = grant;
  const code = "code" in revocation ? revocation.code : revocation.kind;
  const outcome = retryAt === null ? outcomeOf(revocation) : "unavailable";
  const durationMs = Math.round(performance.now() - startedAt);
  const event = { tenantId, provider, at: now, kind: "revoke", askedBy: ending.askedBy } as const;
  await recordEventOfAnybody(ctx.db, { ...event, outcome, code, durationMs, retryAt });
  if (revocation.kind !== "failed") return { revocation: revocation.kind };
  return { revocation: retryAt === null ? "impossible" : "pending" };
}

/** What stands in the way of reading the tokens is one more trouble that may pass. */
async function tell(ctx: IntegrationsContext, grant: GrantToEnd, { tokens, signal }: Ending): Promise<Revocation> {
  if (grant.isTold) return { kind: "revoked" };
  const readTokens = async () => tokens ?? (await readNewestTokens(ctx.vault, grant))?.tokens;
  try {
    const revocation = await revokeGrant(ctx, ctx.providers.find(grant.provider), { grant, readTokens }, signal);
    if (revocation.kind === "revoked") await updateGrant(ctx.db, grant, { isTold: true });
    return revocation;
  } catch (error) {
    // To translate.
    if (!(error instanceof OpenClawError)) throw error;
    ctx.log.warn({ error, grantId: grant.grantId }, "the tokens of a grant that is to be ended could not be read");
    return failed(error.code);
  }
}

/** @returns false when somebody else has taken it up since, who ends it once more. */
async function strikeOff(ctx: IntegrationsContext, grant: GrantToEnd, revocation: Revocation): Promise<boolean> {
  const { tenantId, provider } = grant;
  return ctx.db.transaction().execute(async (tx) => {
    if (!(await dropGrant(tx, grant))) return false;
    if (!("code" in revocation)) return true;
    // Beyond the tenant's own records, which a purge takes along.
    const entry = { at: ctx.clock.now(), actor: ctx.actor, tenantId, detail: { provider, code: revocation.code } };
    await writeAudit(tx, { ...entry, action: "connection.revocation-given-up" });
    return true;
  });
}

async function deleteTokens(ctx: IntegrationsContext, grant: GrantToEnd): Promise<void> {
  await forgetTokens(ctx.vault, grant);
  if (await hasTokens(ctx.vault, grant)) throw tokensLeft();
}

export function tokensLeft(): UpstreamError {
  const message = "The tokens of a connection are still in the vault after their deletion.";
  return new UpstreamError("tokens_not_deleted", message, { service: "vault", retryable: true });
}
