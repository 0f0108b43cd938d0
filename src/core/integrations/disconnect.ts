import { writeAudit } from "../platform/audit.ts";
import { addMs } from "../platform/clock.ts";
import { ConflictError, NotFoundError, UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Connection } from "./connection.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { deleteTokens, endGrant, type Ended, overtaken } from "./end-grant.ts";
import type { AskedBy } from "./events.ts";
import { type Held, tryLease, withLease } from "./lease.ts";
import { listLeased, listRevocationsDue } from "./revocation-store.ts";
import type { ConnectionKey } from "./store.ts";

/** A provider that can't be told for so long won't be told. */
const GIVE_UP_MS = 24 * 3_600_000;
/** A refresh that is under way comes to an end first. */
const PATIENCE_MS = 20_000;
/** One run of the sweep; the rest is for the next, which begins a minute later. */
const AT_ONCE = 500;
const SWEEP_MS = 45_000;

const never = new AbortController().signal;

type Disconnecting = { reason: string; askedBy: AskedBy };

/**
 * Ends a connection: no token is given out from now on, the grant is revoked at the provider unless others stand on it, and its tokens
 * are deleted. Where the provider can't be told, that is tried again for a day (`sweepRevocations`).
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
    if (connection.state === "revoked" && connection.revokeAt === null)
      throw new ConflictError("already_disconnected", `The connection to ${key.provider} has ended already.`);
    const revoked = await markRevoked(ctx, held, connection, reason);
    return endGrant(ctx, held, revoked, { askedBy, giveUpAt: giveUpAt(revoked), signal: never });
  });
}

function giveUpAt({ stateChangedAt }: Connection): Date {
  return addMs(stateChangedAt, GIVE_UP_MS);
}

/** First of all, so that nothing is given out while the provider is told; whatever breaks off after that is found by the sweep. */
async function markRevoked(
  ctx: IntegrationsContext,
  held: Held,
  connection: Connection,
  reason: string,
): Promise<Connection> {
  if (connection.state === "revoked") return connection;
  const now = ctx.clock.now();
  const change = {
    state: "revoked",
    reason: "disconnected",
    stateChangedAt: now,
    refreshAt: null,
    attempts: 0,
    trouble: null,
    waitUntil: null,
    revokeAt: now,
    revokeAttempts: 0,
  } as const;
  const isMarked = await held.promote(change, (tx) =>
    writeAudit(tx, {
      at: now,
      actor: ctx.actor,
      action: "connection.disconnected",
      tenantId: held.key.tenantId,
      reason,
      detail: { provider: held.key.provider },
    }),
  );
  if (!isMarked) throw overtaken(held.key);
  return { ...connection, ...change };
}

/** Goes on with what could not be ended. What somebody is at is left for the next time. @returns how many were, and how many wait. */
export async function sweepRevocations(
  ctx: IntegrationsContext,
  signal: AbortSignal,
): Promise<{ ended: number; pending: number }> {
  const counts = { ended: 0, pending: 0 };
  // A provider that is down costs its patience with each.
  const deadline = performance.now() + SWEEP_MS;
  for (const key of await listRevocationsDue(ctx.db, ctx.clock.now(), AT_ONCE)) {
    if (signal.aborted || performance.now() >= deadline) break;
    const ended = await tryToEnd(ctx, key, signal);
    if (ended === undefined) continue;
    counts[ended.revocation === "pending" ? "pending" : "ended"] += 1;
  }
  return counts;
}

/** One that fails must not keep the others from their turn; its own comes again with the next sweep. */
async function tryToEnd(ctx: IntegrationsContext, key: ConnectionKey, signal: AbortSignal): Promise<Ended | undefined> {
  try {
    const done = await tryLease(ctx, key, async (held) => {
      const { connection } = held;
      // Somebody may have connected anew meanwhile.
      if (connection?.state !== "revoked" || connection.revokeAt === null) return { ended: undefined };
      const ending = { askedBy: "sweep", giveUpAt: giveUpAt(connection), signal } as const;
      return { ended: await endGrant(ctx, held, connection, ending) };
    });
    return done?.ended;
  } catch (error) {
    ctx.log.warn({ error, ...key }, "a connection that was disconnected could not be ended, will be tried again");
    return { revocation: "pending" };
  }
}

/**
 * Ends all connections of a tenant for good, before the tenant is forgotten, and reads back that no token of its is left. May be
 * repeated.
 * @throws UpstreamError while a provider can't be told, for a day.
 */
export async function endConnectionsOf(ctx: IntegrationsContext, tenantId: TenantId): Promise<void> {
  const waiting: string[] = [];
  // Whoever wrote tokens had the lease, whether or not a connection came of it.
  for (const key of await listLeased(ctx.db, tenantId)) {
    const { revocation } = await withLease(ctx, key, { patienceMs: PATIENCE_MS }, (held) => purge(ctx, held));
    if (revocation === "pending") waiting.push(key.provider);
  }
  if (waiting.length === 0) return;
  throw new UpstreamError("revocation_pending", `Grants could not be revoked yet at: ${waiting.join(", ")}.`, {
    service: "oauth",
    retryable: true,
  });
}

async function purge(ctx: IntegrationsContext, held: Held): Promise<Ended> {
  const { connection } = held;
  if (connection === undefined || (connection.state === "revoked" && connection.revokeAt === null)) {
    await deleteTokens(ctx.vault, held);
    return { revocation: "revoked" };
  }
  const revoked = await markRevoked(ctx, held, connection, "purged");
  return endGrant(ctx, held, revoked, { askedBy: "sweep", giveUpAt: giveUpAt(revoked), signal: never });
}
