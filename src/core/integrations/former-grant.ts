import type { Db } from "../platform/db.ts";
import { UpstreamError } from "../platform/errors.ts";
import { enqueueJob, type JobPayloads } from "../platform/jobs.ts";
import type { Connection } from "./connection.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { recordEventOfAnybody } from "./events.ts";
import { outcomeOf, revokeGrant } from "./grants.ts";
import { readTokens } from "./kept-tokens.ts";

/** A grant whose connection now has another. */
export type FormerGrant = JobPayloads["connection.end-former"];

/**
 * Has the grant ended that a new connection leaves behind. One of the same account is the new one's, too; and where no account is known,
 * ending the old might end the new.
 */
export async function enqueueFormerGrant(
  db: Db,
  former: Connection,
  now: Pick<Connection, "client" | "accountSubject">,
): Promise<void> {
  if (former.state === "revoked" && former.revokeAt === null) return;
  const { tenantId, provider, client, accountSubject, secretVersion, grantId } = former;
  const isAnother =
    client !== now.client ||
    (accountSubject !== null && now.accountSubject !== null && accountSubject !== now.accountSubject);
  if (!isAnother) return;
  const payload = { tenantId, provider, client, accountSubject, secretVersion };
  await enqueueJob(db, "connection.end-former", payload, { key: `end-former:${grantId}`, maxAttempts: ATTEMPTS });
}

/** With the pauses between them, that is more than a day. */
const ATTEMPTS = 14;

/** Revokes it, unless others stand on it. Its tokens are a former version of the secret that the new ones lie in. */
export async function endFormerGrant(
  ctx: IntegrationsContext,
  former: FormerGrant,
  signal: AbortSignal,
): Promise<void> {
  const { tenantId, provider: providerId, secretVersion } = former;
  const startedAt = performance.now();
  const provider = ctx.providers.find(providerId);
  const tokens = await readTokens(ctx.vault, { tenantId, provider: providerId }, secretVersion);
  const revocation = await revokeGrant(ctx, provider, { grant: former, tokens }, signal);
  await recordEventOfAnybody(ctx.db, {
    tenantId,
    provider: providerId,
    at: ctx.clock.now(),
    kind: "revoke",
    askedBy: "subscriber",
    outcome: revocation.kind === "failed" ? "unavailable" : outcomeOf(revocation),
    code: revocation.kind === "failed" ? revocation.code : revocation.kind,
    durationMs: Math.round(performance.now() - startedAt),
    retryAt: null,
  });
  if (revocation.kind !== "failed") return;
  throw new UpstreamError("revocation_failed", `${providerId} could not be told that a former grant is over.`, {
    service: "oauth",
    retryable: true,
  });
}
