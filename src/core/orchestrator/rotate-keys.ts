import type { Vault } from "../adapters/vault/vault.ts";
import { writeAudit } from "../platform/audit.ts";
import { addMs } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { assertNever, ConflictError, errorMessage } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { enqueueJob } from "../platform/jobs.ts";
import type { Log } from "../platform/log.ts";
import {
  enqueueConverge,
  findTenantById,
  lockTenant,
  setKeyGeneration,
  type Tenant,
  type TenantsContext,
} from "../tenants/tenants.ts";
import { ensureTenantKeys, removeGeneration } from "./keys.ts";
import { describePhase, GRACE_MS, phaseOf, type RotationPhase, restOf } from "./rotation.ts";
import * as rotations from "./rotation-store.ts";
import type { RotationRow } from "./rotation-store.ts";
import { findMintedAt } from "./store.ts";

type RotationContext = TenantsContext & { vault: Vault; log: Log };

/** So many runtimes at about once are replaced, so that a fleet's rotation is no fleet's outage. */
const MAX_SWITCHING = 10;
/** One that has not come up by then no longer keeps others waiting. */
const SWITCH_PATIENCE_MS = 2 * 60_000;
const BUSY_MS = 2_000;
const SHORTEST_LOOK_MS = 500;
const MAX_BACKOFF_MS = 60_000;

/**
 * Has all keys of a tenant's runtime replaced; a job does the rest. The new ones come beside the old ones under names of their own,
 * the runtime is replaced by one that has them, and a minute later the old ones are gone (F98).
 * @throws ConflictError for a tenant without keys, and while they are rotated already.
 */
export async function rotateKeys(
  ctx: TenantsContext,
  tenantId: TenantId,
  reason: string,
): Promise<{ generation: number }> {
  return ctx.db.transaction().execute(async (tx) => {
    const tenant = await lockTenant(tx, tenantId);
    const at = ctx.clock.now();
    requireRotatable(tenant, await rotations.find(tx, tenantId), at);
    const [fromGeneration, toGeneration] = [tenant.keyGeneration, tenant.keyGeneration + 1];
    await rotations.insert(tx, { tenantId, fromGeneration, toGeneration, reason, requestedAt: at });
    const detail = { from: fromGeneration, to: toGeneration };
    await writeAudit(tx, { at, actor: ctx.actor, action: "tenant.keys-rotation", tenantId, reason, detail });
    await enqueueRotation(tx, tenantId);
    return { generation: toGeneration };
  });
}

/** What `rotateKeys` would do now. @throws ConflictError as it would. */
export async function planRotation(
  ctx: Pick<TenantsContext, "db" | "clock">,
  tenant: Tenant,
): Promise<{ generation: number }> {
  requireRotatable(tenant, await rotations.find(ctx.db, tenant.id), ctx.clock.now());
  return { generation: tenant.keyGeneration + 1 };
}

/** Whether the tenant's runtime holds keys that could be rotated. */
export function holdsKeys({ status }: Pick<Tenant, "status">): boolean {
  return status === "active" || status === "suspended";
}

function requireRotatable(tenant: Tenant, rotation: RotationRow | undefined, now: Date): void {
  const { slug, status } = tenant;
  if (!holdsKeys(tenant)) {
    const isLeaving = status === "deprovisioning" || status === "deleted";
    const why = isLeaving
      ? "its keys go with its runtime, and it gets new ones if it comes back"
      : "its runtime has yet to come up with the first ones";
    throw new ConflictError("no_keys", `Tenant ${slug} is ${status}: there are no keys to rotate, ${why}.`);
  }
  if (rotation === undefined) return;
  const since = rotation.requestedAt.toISOString();
  throw new ConflictError(
    "rotation_under_way",
    `The keys of ${slug} are being rotated since ${since}: ${describePhase(phaseOf(rotation, now))}. See: openclaw tenant show ${slug}`,
  );
}

/** In the tenant's own queue: nothing is done to its runtime meanwhile. */
async function enqueueRotation(
  db: Db,
  tenantId: TenantId,
  when: { delayMs?: number; keepsTime?: boolean } = {},
): Promise<void> {
  const options = { queue: `tenant:${tenantId}`, key: `rotate-keys:${tenantId}`, ...when };
  await enqueueJob(db, "tenant.rotate-keys", { tenantId }, options);
}

/** Sees to it that every rotation under way has its job. */
export async function sweepRotations({ db }: { db: Db }): Promise<void> {
  for (const tenantId of await rotations.list(db)) await enqueueRotation(db, tenantId, { keepsTime: true });
}

/**
 * Takes a rotation as far as it gets and comes back for the rest. Every step is idempotent and none is noted as done without being
 * read back. What fails is kept, shown and tried again for as long as it takes: until the end both generations are there.
 */
export async function advanceRotation(ctx: RotationContext, tenantId: TenantId, signal: AbortSignal): Promise<void> {
  try {
    const delayMs = await advance(ctx, tenantId);
    if (delayMs !== undefined) await enqueueRotation(ctx.db, tenantId, { delayMs });
  } catch (error) {
    if (signal.aborted) throw error;
    const attempts = await rotations.noteTrouble(ctx.db, tenantId, errorMessage(error));
    ctx.log.warn({ tenantId, attempts, error }, "a rotation of keys does not get on");
    const delayMs = Math.min(MAX_BACKOFF_MS, 1_000 * 2 ** Math.min(attempts, 10));
    await enqueueRotation(ctx.db, tenantId, { delayMs });
  }
}

/** @returns when to go on, in ms; undefined: there is nothing left to do. */
async function advance(ctx: RotationContext, tenantId: TenantId): Promise<number | undefined> {
  for (;;) {
    const rotation = await rotations.find(ctx.db, tenantId);
    const tenant = await findTenantById(ctx.db, tenantId);
    // A removal takes all keys and the rotation with them.
    if (rotation === undefined || tenant === undefined || !holdsKeys(tenant)) return undefined;
    const now = ctx.clock.now();
    const phase = phaseOf(rotation, now);
    switch (phase) {
      case "minting":
        await mint(ctx, rotation);
        break;
      case "spreading":
      case "overlapping":
        return restOf(rotation, now);
      case "adopting":
        if (!(await adopt(ctx, rotation))) return BUSY_MS;
        break;
      case "switching":
        if (!(await rotations.noteSwitched(ctx.db, tenantId, addMs(now, GRACE_MS)))) return lookAgainIn(rotation, now);
        break;
      case "retiring":
        return retire(ctx, rotation);
      default:
        return assertNever(phase);
    }
  }
}

/** Gateways take the new keys as soon as their hashes are committed, so that is counted from afterwards. */
async function mint(ctx: RotationContext, { tenantId, toGeneration }: RotationRow): Promise<void> {
  await ensureTenantKeys(ctx, tenantId, toGeneration);
  await rotations.noteMinted(ctx.db, tenantId, ctx.clock.now());
}

/** From here on the spec names the new keys, and the runtime follows it as it follows any change. @returns false while others do. */
async function adopt(ctx: RotationContext, { tenantId, toGeneration }: RotationRow): Promise<boolean> {
  const now = ctx.clock.now();
  if ((await rotations.countSwitching(ctx.db, addMs(now, -SWITCH_PATIENCE_MS))) >= MAX_SWITCHING) return false;
  await ctx.db.transaction().execute(async (tx) => {
    const tenant = await lockTenant(tx, tenantId);
    if (!holdsKeys(tenant)) return;
    await setKeyGeneration(tx, tenantId, toGeneration);
    await rotations.noteAdopted(tx, tenantId, now);
    await enqueueConverge(tx, tenantId);
  });
  return true;
}

/** Often at first, seldom when it takes long. */
function lookAgainIn({ adoptedAt }: RotationRow, now: Date): number {
  const waitedMs = now.getTime() - (adoptedAt ?? now).getTime();
  return Math.min(MAX_BACKOFF_MS, Math.max(SHORTEST_LOOK_MS, waitedMs / 4));
}

async function retire(ctx: RotationContext, rotation: RotationRow): Promise<undefined> {
  const { tenantId, fromGeneration, toGeneration, reason } = rotation;
  await removeGeneration(ctx, tenantId, fromGeneration);
  await ctx.db.transaction().execute(async (tx) => {
    if (!(await rotations.remove(tx, tenantId))) return;
    const detail = { from: fromGeneration, to: toGeneration };
    const entry = { at: ctx.clock.now(), actor: ctx.actor, action: "tenant.keys-rotated", tenantId, reason, detail };
    await writeAudit(tx, entry);
  });
}

/** Ends a rotation with the tenant's keys, in `db`'s transaction. Whoever comes back gets keys under names that were never used. */
export async function endKeys(db: Db, { id, keyGeneration }: Tenant): Promise<void> {
  const rotation = await rotations.find(db, id);
  await rotations.remove(db, id);
  await setKeyGeneration(db, id, (rotation?.toGeneration ?? keyGeneration) + 1);
}

export type KeysView = {
  generation: number;
  /** When they were made. */
  since: Date;
  rotation: RotationView | null;
};

type RotationView = {
  generation: number;
  phase: RotationPhase;
  requestedAt: Date;
  reason: string;
  oldKeysHoldUntil: Date | null;
  trouble: string | null;
};

/** The keys that the tenant's runtime is to have; undefined while there are none. */
export async function findKeys(
  { db, clock }: Pick<TenantsContext, "db" | "clock">,
  { id, keyGeneration }: Tenant,
): Promise<KeysView | undefined> {
  const since = await findMintedAt(db, id, keyGeneration);
  const rotation = await rotations.find(db, id);
  if (since === undefined) return undefined;
  const view = rotation === undefined ? null : viewRotation(rotation, clock.now());
  return { generation: keyGeneration, since, rotation: view };
}

function viewRotation(rotation: RotationRow, now: Date): RotationView {
  const { toGeneration: generation, requestedAt, reason, expiresAt: oldKeysHoldUntil, trouble } = rotation;
  return { generation, phase: phaseOf(rotation, now), requestedAt, reason, oldKeysHoldUntil, trouble };
}
