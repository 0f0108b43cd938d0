import { randomUUID } from "node:crypto";
import { writeAudit } from "../platform/audit.ts";
import { addMs } from "../platform/clock.ts";
import { isForeignKeyViolation } from "../platform/db.ts";
import { ConflictError } from "../platform/errors.ts";
import { planRefresh } from "./backoff.ts";
import { requireConnectable } from "./connect-links.ts";
import type { ConsentRefusal, OfferRefusal } from "./connect-refusals.ts";
import type { Connection } from "./connection.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { recordEvent } from "./events.ts";
import { findTenantById, getTenant } from "../tenants/tenants.ts";
import { enqueueFormerGrant } from "./former-grant.ts";
import type { Granted } from "./grants.ts";
import { keepTokens } from "./kept-tokens.ts";
import { type Held, withLease } from "./lease.ts";
import { findLink, type OAuthState, useLink } from "./link-store.ts";
import { enqueueConnectionNews } from "./news.ts";
import { endOf, type ReadyProvider } from "./offer.ts";
import { settleOvertaken } from "./recovery.ts";
import { type ConnectionKey, endClientTrouble } from "./store.ts";

/** A refresh that is under way comes to an end first. */
const PATIENCE_MS = 20_000;
const LINK_SPENT = "link_spent";

export type Keeping = { state: OAuthState; granted: Granted; signal: AbortSignal };

/**
 * Makes the connection out of what was granted, in the place of the one that may be there: the tokens are written and read back, and
 * then one transaction makes them count, uses up the link and has the subscriber told. @returns why not; undefined: it is made.
 */
export async function keepConnection(
  ctx: IntegrationsContext,
  provider: ReadyProvider,
  { state, granted, signal }: Keeping,
): Promise<ConsentRefusal | OfferRefusal | undefined> {
  const key = { tenantId: state.tenantId, provider: state.provider };
  let wasHeld = false;
  try {
    const isKept = await withLease(ctx, key, { patienceMs: PATIENCE_MS, signal }, (held) => {
      wasHeld = true;
      return establish(ctx, provider, { state, granted, held });
    });
    if (!isKept) return { kind: (await clearAway(ctx, key)) ? "overtaken" : "tenant-gone" };
  } catch (error) {
    const refusal = await refusalFor(ctx, state, error);
    // Who never had the lease has written nothing. To compensate, as far as what failed allows it: the next to disconnect or purge does.
    if (wasHeld)
      await clearAway(ctx, key).catch((failed: unknown) =>
        ctx.log.warn({ error: failed, ...key }, "tokens that were not to be kept could not be deleted"),
      );
    if (refusal === undefined) throw error;
    return refusal;
  }
  await endClientTrouble(ctx.db, key.provider, ctx.clock.now());
  return undefined;
}

async function refusalFor(
  ctx: IntegrationsContext,
  { linkHash }: OAuthState,
  error: unknown,
): Promise<ConsentRefusal | OfferRefusal | undefined> {
  if (isForeignKeyViolation(error) || isConflict(error, "tenant_gone")) return { kind: "tenant-gone" };
  if (isConflict(error, "connection_busy")) return { kind: "overtaken" };
  const link = isConflict(error, LINK_SPENT) ? await findLink(ctx.db, linkHash) : undefined;
  return link === undefined ? undefined : endOf(link);
}

function isConflict(error: unknown, code: string): boolean {
  return error instanceof ConflictError && error.code === code;
}

/** What may have been written is nobody's now, unless somebody else connected meanwhile. @returns whether the tenant is there. */
async function clearAway(ctx: IntegrationsContext, key: ConnectionKey): Promise<boolean> {
  await settleOvertaken(ctx, key, "subscriber");
  return (await findTenantById(ctx.db, key.tenantId)) !== undefined;
}

async function establish(
  ctx: IntegrationsContext,
  { definition }: ReadyProvider,
  { state, granted, held }: Omit<Keeping, "signal"> & { held: Held },
): Promise<boolean> {
  const startedAt = performance.now();
  const now = ctx.clock.now();
  const { accessToken, refreshToken = null, expiresInSeconds } = granted.reply;
  const accessExpiresAt = expiresInSeconds === undefined ? null : addMs(now, expiresInSeconds * 1_000);
  const its = { grantId: randomUUID(), client: definition.client, accountSubject: granted.account?.subject ?? null };
  const tokens = {
    fence: held.fence,
    grantId: its.grantId,
    accessToken,
    accessExpiresAt: accessExpiresAt?.toISOString() ?? null,
    refreshToken,
  };
  const secretVersion = await keepTokens(ctx, held.key, tokens, { insists: false });
  const row = {
    ...its,
    accountEmail: granted.account?.email ?? null,
    scopes: [...granted.scopes],
    secretVersion,
    secretFence: held.fence,
    accessExpiresAt,
    hasRefreshToken: refreshToken !== null,
    // What can't be renewed is looked at when it ends.
    refreshAt: refreshToken === null ? accessExpiresAt : planRefresh(now, accessExpiresAt),
  };
  return held.establish({ ...anew(now), ...row }, (tx) =>
    recordConnected({ ...ctx, db: tx }, { state, its, former: held.connection, startedAt }),
  );
}

/** All that a connection before it may have left in its row. */
function anew(now: Date) {
  return {
    state: "active",
    reason: null,
    stateChangedAt: now,
    connectedAt: now,
    refreshedAt: null,
    triedAt: null,
    attempts: 0,
    trouble: null,
    waitUntil: null,
    revokeAt: null,
    revokeAttempts: 0,
  } satisfies Partial<Connection>;
}

type Recorded = {
  state: OAuthState;
  its: Pick<Connection, "grantId" | "client" | "accountSubject">;
  former: Connection | undefined;
  startedAt: number;
};

/** All that goes with a new connection, in its transaction. */
async function recordConnected(ctx: IntegrationsContext, { state, its, former, startedAt }: Recorded): Promise<void> {
  const { tenantId, provider } = state;
  const now = ctx.clock.now();
  await recordEvent(ctx.db, {
    tenantId,
    provider,
    at: now,
    kind: "connect",
    askedBy: "subscriber",
    outcome: "done",
    code: null,
    durationMs: Math.round(performance.now() - startedAt),
    retryAt: null,
  });
  // After the event, which holds on to the tenant: in the order in which a new link takes the two, and so that none is forgotten
  // whose connection is made here.
  requireConnectable(await getTenant(ctx.db, tenantId));
  if (!(await useLink(ctx.db, state.linkHash, now)))
    throw new ConflictError(LINK_SPENT, "The link was used, or replaced, meanwhile.");
  const replaces = former !== undefined && former.state !== "revoked";
  await writeAudit(ctx.db, {
    at: now,
    actor: ctx.actor,
    action: "connection.connected",
    tenantId,
    detail: { provider, replaces },
  });
  await enqueueConnectionNews(ctx.db, { tenantId, provider, grantId: its.grantId, news: "connected" });
  if (former !== undefined) await enqueueFormerGrant(ctx.db, former, its);
}
