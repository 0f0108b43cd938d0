import { randomUUID } from "node:crypto";
import type { ExchangeResult, ProviderDefinition } from "../adapters/oauth/oauth-provider.ts";
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
import { callOffGrant, noteGrant } from "./grant-store.ts";
import type { Grant } from "./grants.ts";
import { keepTokens } from "./kept-tokens.ts";
import { type Held, withLease } from "./lease.ts";
import { findLink, type OAuthState, useLink } from "./link-store.ts";
import { enqueueConnectionNews } from "./news.ts";
import { endOf } from "./offer.ts";
import { endClientTrouble } from "./store.ts";
import type { TokenSet } from "./token-set.ts";

/** A refresh that is under way comes to an end first. */
const PATIENCE_MS = 20_000;
const LINK_SPENT = "link_spent";

export type TokensGranted = Extract<ExchangeResult, { kind: "granted" | "misgranted" }>;

export type Keeping = {
  state: OAuthState;
  grant: Grant;
  accountEmail: string | null;
  scopes: readonly string[];
  /** Of no fence yet. */
  tokens: TokenSet;
  signal: AbortSignal;
};

/** What was granted, as another grant than all before. */
export function prepareToKeep(
  { clock }: IntegrationsContext,
  definition: ProviderDefinition,
  { state, result, signal }: { state: OAuthState; result: TokensGranted; signal: AbortSignal },
): Keeping {
  const { tenantId, provider } = state;
  const account = result.kind === "granted" ? result.account : undefined;
  const accountSubject = account?.subject ?? null;
  const { accessToken, refreshToken = null, expiresInSeconds: seconds, scopes = definition.scopes } = result.reply;
  const now = clock.now();
  const obtainedAt = now.toISOString();
  const accessExpiresAt = seconds === undefined ? null : addMs(now, seconds * 1_000).toISOString();
  const grantId = randomUUID();
  return {
    state,
    grant: { grantId, tenantId, provider, client: definition.client, accountSubject },
    accountEmail: account?.email ?? null,
    scopes,
    tokens: { fence: 0, grantId, obtainedAt, accessToken, accessExpiresAt, refreshToken },
    signal,
  };
}

/**
 * Makes the connection out of what was granted, in the place of the one that may be there: the tokens are written and read back, and
 * then one transaction makes them count, uses up the link and has the subscriber told. @returns why not; undefined: it is made.
 */
export async function keepConnection(
  ctx: IntegrationsContext,
  keeping: Keeping,
): Promise<ConsentRefusal | OfferRefusal | undefined> {
  const { state, signal } = keeping;
  const { tenantId, provider } = state;
  try {
    const lease = { patienceMs: PATIENCE_MS, signal };
    const isKept = await withLease(ctx, { tenantId, provider }, lease, (held) => establish(ctx, keeping, held));
    if (!isKept) return { kind: (await findTenantById(ctx.db, tenantId)) === undefined ? "tenant-gone" : "overtaken" };
  } catch (error) {
    const refusal = await refusalFor(ctx, state, error);
    if (refusal === undefined) throw error;
    return refusal;
  }
  await endClientTrouble(ctx.db, provider, ctx.clock.now());
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

async function establish(ctx: IntegrationsContext, keeping: Keeping, held: Held): Promise<boolean> {
  const { state, grant, accountEmail, scopes } = keeping;
  const startedAt = performance.now();
  const now = ctx.clock.now();
  const tokens = { ...keeping.tokens, fence: held.fence };
  const accessExpiresAt = tokens.accessExpiresAt === null ? null : new Date(tokens.accessExpiresAt);
  const isRenewable = tokens.refreshToken !== null;
  const row = {
    ...grant,
    accountEmail,
    scopes: [...scopes],
    secretVersion: await keepTokens(ctx, held.key, tokens, { insists: false }),
    secretFence: held.fence,
    accessExpiresAt,
    hasRefreshToken: isRenewable,
    // What can't be renewed is looked at when it ends.
    refreshAt: isRenewable ? planRefresh(now, accessExpiresAt) : accessExpiresAt,
  };
  return held.establish({ ...anew(now), ...row }, (tx) =>
    recordConnected({ ...ctx, db: tx }, { state, grant, former: held.connection, startedAt }),
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
  } satisfies Partial<Connection>;
}

type Recorded = {
  state: OAuthState;
  grant: Grant;
  former: Connection | undefined;
  startedAt: number;
};

/** All that goes with a new connection, in its transaction. */
async function recordConnected(ctx: IntegrationsContext, { state, grant, former, startedAt }: Recorded): Promise<void> {
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
  await enqueueConnectionNews(ctx.db, { tenantId, provider, grantId: grant.grantId, news: "connected" });
  if (replaces) await noteGrant(ctx.db, former, { since: now, tryAt: now });
  if (!(await callOffGrant(ctx.db, grant.grantId)))
    throw new ConflictError("connection_busy", "It took so long that the grant was ended meanwhile.");
}
