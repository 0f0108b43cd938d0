import { connectionSecretPrefix } from "../adapters/vault/vault.ts";
import { writeAudit } from "../platform/audit.ts";
import { addMs } from "../platform/clock.ts";
import { ConflictError, NotFoundError, UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { endGrant, type Ended, tokensLeft } from "./end-grant.ts";
import type { AskedBy } from "./events.ts";
import { listGrantsOf, noteGrant, takeNotedGrant } from "./grant-store.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { type Held, withLease } from "./lease.ts";
import { revokeLinks } from "./link-store.ts";
import { type ConnectionKey, listConnections } from "./store.ts";
import { tryToEnd } from "./sweep-revocations.ts";

/** A refresh that is under way comes to an end first. */
const PATIENCE_MS = 20_000;
/** So long the sweep leaves a grant to whoever disconnected. */
const AT_IT_MS = 60_000;

const never = new AbortController().signal;

type Disconnecting = { reason: string; askedBy: AskedBy };

/**
 * Ends a connection: no token is given out from now on, no link and no consent under way leads to another, the grant is revoked at the
 * provider unless others stand on it, and its tokens are deleted. Where the provider can't be told, that is tried again for a day.
 * @throws NotFoundError, ConflictError when it was disconnected before.
 */
export async function disconnect(
  ctx: IntegrationsContext,
  key: ConnectionKey,
  { reason, askedBy }: Disconnecting,
): Promise<Ended> {
  return withLease(ctx, key, { patienceMs: PATIENCE_MS }, async (held) => {
    const { connection } = held;
    if (connection === undefined)
      throw new NotFoundError("connection_not_found", `There is no connection to ${key.provider}.`);
    await markRevoked(ctx, held, { reason, tryAt: addMs(ctx.clock.now(), AT_IT_MS) });
    const grant = await takeNotedGrant(ctx.db, connection.grantId, { now: ctx.clock.now() });
    if (grant === undefined)
      throw new ConflictError("already_disconnected", `The connection to ${key.provider} has ended already.`);
    return endGrant(ctx, grant, { askedBy, signal: never });
  });
}

/** First of all, so that nothing is given out while the provider is told; whatever breaks off after that is found by the sweep. */
async function markRevoked(
  ctx: IntegrationsContext,
  held: Held,
  { reason, tryAt }: { reason: string; tryAt: Date },
): Promise<void> {
  const { key, connection } = held;
  if (connection === undefined || connection.state === "revoked") return;
  const now = ctx.clock.now();
  const change = {
    state: "revoked",
    reason: "disconnected",
    stateChangedAt: now,
    refreshAt: null,
    attempts: 0,
    trouble: null,
    waitUntil: null,
  } as const;
  const isMarked = await held.promote(change, async (tx) => {
    await noteGrant(tx, connection, { since: now, tryAt });
    await revokeLinks(tx, key, { at: now, as: "disconnected" });
    await writeAudit(tx, {
      at: now,
      actor: ctx.actor,
      action: "connection.disconnected",
      tenantId: key.tenantId,
      reason,
      detail: { provider: key.provider },
    });
  });
  if (isMarked) return;
  const message = `The connection to ${key.provider} was changed by somebody else. Try again.`;
  throw new ConflictError("connection_busy", message);
}

/**
 * Ends all connections of a tenant for good, before the tenant is forgotten, and reads back that no token of its is left. May be
 * repeated.
 * @throws UpstreamError while a provider can't be told, for a day.
 */
export async function endConnectionsOf(ctx: IntegrationsContext, tenantId: TenantId): Promise<void> {
  for (const { provider } of await listConnections(ctx.db, { tenantIds: [tenantId] }))
    await withLease(ctx, { tenantId, provider }, { patienceMs: PATIENCE_MS }, (held) =>
      markRevoked(ctx, held, { reason: "purged", tryAt: ctx.clock.now() }),
    );
  for (const { grantId } of await listGrantsOf(ctx.db, [tenantId])) await tryToEnd(ctx, grantId, never);
  const waiting = new Set((await listGrantsOf(ctx.db, [tenantId])).map(({ provider }) => provider));
  if (waiting.size > 0)
    throw new UpstreamError("revocation_pending", `Grants could not be revoked yet at: ${[...waiting].join(", ")}.`, {
      service: "oauth",
      retryable: true,
    });
  await clearVault(ctx, tenantId);
}

/** Nobody is left whose tokens they would be. */
async function clearVault({ vault }: IntegrationsContext, tenantId: TenantId): Promise<void> {
  const names = await vault.list(connectionSecretPrefix(tenantId));
  if (names.length === 0) return;
  for (const name of names) await vault.delete(name);
  if ((await vault.list(connectionSecretPrefix(tenantId))).length > 0) throw tokensLeft();
}
