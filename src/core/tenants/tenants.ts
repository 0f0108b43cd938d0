import { createHash, randomUUID } from "node:crypto";
import type pg from "pg";
import { writeAudit } from "../platform/audit.ts";
import { addMs } from "../platform/clock.ts";
import { type Db, isForeignKeyViolation, isUniqueViolation } from "../platform/db.ts";
import { ConflictError, FieldsError, NotFoundError } from "../platform/errors.ts";
import type { StampId, TenantId } from "../platform/ids.ts";
import * as store from "./store.ts";
import type { Tenant, TenantFilter } from "./store.ts";
import type { NewTenant, NewTenantInput } from "./tenant-input.ts";
import { changeStatus, enqueueConverge, lockTenant, type TenantsContext } from "./status.ts";

export { listSlugs, type Tenant, type TenantFilter } from "./store.ts";
export {
  changeStatus,
  enqueueConverge,
  enqueueConvergeAll,
  lockTenant,
  type StatusChange,
  type TenantsContext,
} from "./status.ts";
export { TENANT_STATUSES, type TenantStatus } from "./transitions.ts";
export { consumeLink, createLink, linkChat, unlinkChat } from "./links.ts";
export { pruneRequests } from "./retention.ts";

const DAY_MS = 86_400_000;

/**
 * Creates a tenant: `pending`, or `provisioning` when a trial begins with it. With an idempotency key, a repeated call
 * with the same input gives the tenant of the first; keys are kept for 30 days.
 * @throws UsageError for bad input, ConflictError when slug, e-mail or chat is taken, or the key was used for other input.
 */
export async function createTenant(
  ctx: TenantsContext,
  input: NewTenantInput,
  options: { idempotencyKey?: string } = {},
): Promise<{ tenant: Tenant; created: boolean }> {
  const { checkIdempotencyKey, parseNewTenant } = await loadInputRules();
  const wanted = parseNewTenant(input);
  const { idempotencyKey } = options;
  checkIdempotencyKey(idempotencyKey);
  const requestHash = createHash("sha256").update(JSON.stringify(wanted)).digest("hex");
  const earlier = idempotencyKey === undefined ? undefined : await findEarlier(ctx.db, idempotencyKey, requestHash);
  if (earlier !== undefined) return { tenant: earlier, created: false };
  try {
    const tenant = await ctx.db.transaction().execute(async (tx) => {
      const stampId = wanted.stampId ?? (await store.findRoomyStamp(tx));
      const inserted = await store.insert(tx, newTenantRow(wanted, stampId, ctx.clock.now()));
      if (idempotencyKey !== undefined) {
        const row = { key: idempotencyKey, tenantId: inserted.id, requestHash, createdAt: ctx.clock.now() };
        await store.insertIdempotencyKey(tx, row);
      }
      await writeAudit(tx, {
        at: ctx.clock.now(),
        actor: ctx.actor,
        action: "tenant.created",
        tenantId: inserted.id,
        detail: { slug: inserted.slug, tier: inserted.tier },
      });
      if (wanted.trialDays === 0) return inserted;
      return changeStatus({ ...ctx, db: tx }, inserted.id, {
        to: "provisioning",
        reason: `trial of ${wanted.trialDays} days`,
      });
    });
    return { tenant, created: true };
  } catch (error) {
    if (isUnknownStamp(error)) throw unknownStamp(wanted.stampId, error);
    if (!isUniqueViolation(error)) throw error;
    // Two calls with one key may arrive together: the one that lost gives what the winner created.
    const winner = idempotencyKey === undefined ? undefined : await findEarlier(ctx.db, idempotencyKey, requestHash);
    if (winner !== undefined) return { tenant: winner, created: false };
    throw await describeConflict(ctx.db, wanted, error);
  }
}

function isUnknownStamp(error: unknown): boolean {
  return isForeignKeyViolation(error) && error.constraint === "tenants_stamp_id_fkey";
}

/** On demand: the schema library takes longer to load than a listing takes altogether. */
function loadInputRules() {
  return import("./tenant-input.ts");
}

async function findEarlier(db: Db, key: string, requestHash: string): Promise<Tenant | undefined> {
  const earlier = await store.findIdempotencyKey(db, key);
  if (earlier === undefined) return undefined;
  if (earlier.requestHash !== requestHash) {
    throw new ConflictError(
      "idempotency_key_reused",
      `The idempotency key "${key}" was used for a tenant with other data. Use a new key.`,
    );
  }
  return store.findById(db, earlier.tenantId);
}

function unknownStamp(stampId: string | undefined, cause: unknown): FieldsError {
  const problem = `"${stampId}" is not known; name one of OPENCLAW_STAMPS_FILE, after a daemon has read it`;
  return new FieldsError("stamp_unknown", [{ field: "stampId", problem }], { cause });
}

function newTenantRow({ stampId: _stampId, ...wanted }: NewTenant, stampId: StampId, now: Date) {
  const { trialDays, preferences, displayName, telegramChatId, telegramUserId, telegramUsername, ...rest } = wanted;
  return {
    ...rest,
    id: randomUUID() as TenantId,
    stampId,
    displayName: displayName ?? wanted.slug,
    telegramChatId: telegramChatId ?? null,
    // A private chat has its user's id.
    telegramUserId: telegramUserId ?? telegramChatId ?? null,
    telegramUsername: telegramUsername ?? null,
    preferences: JSON.stringify(preferences),
    trialEndsAt: trialDays === 0 ? null : addMs(now, trialDays * DAY_MS),
    statusChangedAt: now,
    createdAt: now,
    updatedAt: now,
  };
}

async function describeConflict(db: Db, wanted: NewTenant, cause: pg.DatabaseError): Promise<Error> {
  const [what, holder] =
    cause.constraint === "tenants_email_key"
      ? [`The e-mail ${wanted.email}`, await store.findByEmail(db, wanted.email)]
      : cause.constraint === "tenants_telegram_chat_id_key"
        ? [`The Telegram chat ${wanted.telegramChatId}`, await store.findByChat(db, wanted.telegramChatId ?? 0)]
        : [`The slug ${wanted.slug}`, await store.findByReference(db, wanted.slug)];
  // The holder may be gone again by now.
  if (holder === undefined)
    return new ConflictError("tenant_exists", `${what} was taken a moment ago. Try again.`, { cause });
  const remedy =
    holder.status === "deleted"
      ? `bring it back with: openclaw tenant restore ${holder.slug}`
      : `see: openclaw tenant show ${holder.slug}`;
  return new ConflictError("tenant_exists", `${what} belongs to tenant ${holder.slug} (${holder.status}); ${remedy}`, {
    cause,
  });
}

/** @throws NotFoundError when neither a slug nor an id matches. */
export async function getTenant(db: Db, reference: string): Promise<Tenant> {
  const tenant = await store.findByReference(db, reference);
  if (tenant !== undefined) return tenant;
  throw new NotFoundError("tenant_not_found", `No tenant "${reference}". See: openclaw tenant list`);
}

export async function findTenantById(db: Db, id: TenantId): Promise<Tenant | undefined> {
  return store.findById(db, id);
}

/** Those of the tenants that are there, their rows locked until the transaction of `db` ends. */
export async function lockTenants(db: Db, ids: readonly TenantId[]): Promise<Tenant[]> {
  return store.lockMany(db, ids);
}

export async function findTenantByChat(db: Db, chatId: number): Promise<Tenant | undefined> {
  return store.findByChat(db, chatId);
}

export async function findTenantsByChats(db: Db, chatIds: readonly number[]): Promise<Tenant[]> {
  return store.findByChats(db, chatIds);
}

/** All tenants that match, by slug. */
export async function listTenants(db: Db, filter: TenantFilter = {}): Promise<Tenant[]> {
  return store.list(db, filter);
}

/** The newest `limit` entries of the audit log about a tenant, oldest first. */
export async function listTenantEvents(db: Db, tenantId: TenantId, limit: number) {
  return store.listAudit(db, tenantId, limit);
}

/**
 * Changes fields of a tenant, also of a deleted one: being exempt from billing is a way to be restored. Whatever its runtime depends on is rolled out by a job of the same transaction.
 * @throws UsageError for bad input, ConflictError when the e-mail is taken.
 */
export async function updateTenant(ctx: TenantsContext, tenantId: TenantId, input: unknown): Promise<Tenant> {
  const { parseTenantChange } = await loadInputRules();
  const { trialDays, preferences, ...fields } = parseTenantChange(input);
  const now = ctx.clock.now();
  const change = {
    ...fields,
    ...(preferences === undefined ? {} : { preferences: JSON.stringify(preferences) }),
    ...(trialDays === undefined ? {} : { trialEndsAt: trialDays === 0 ? null : addMs(now, trialDays * DAY_MS) }),
    updatedAt: now,
  };
  try {
    return await ctx.db.transaction().execute(async (tx) => {
      const before = await lockTenant(tx, tenantId);
      const after = await store.update(tx, tenantId, change);
      const changed = Object.keys(change).filter((key) => key !== "updatedAt");
      await writeAudit(tx, {
        at: now,
        actor: ctx.actor,
        action: "tenant.updated",
        tenantId,
        detail: { fields: changed, ...(before.tier === after.tier ? {} : { tier: `${before.tier} → ${after.tier}` }) },
      });
      await enqueueConverge(tx, tenantId);
      return after;
    });
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new ConflictError("email_taken", `The e-mail ${fields.email} belongs to another tenant.`, { cause: error });
  }
}

/** Ends the keeping time of a deleted tenant at once, at an operator's word; a job removes the rest. */
export async function endKeepingTime(ctx: TenantsContext, tenantId: TenantId, reason: string): Promise<void> {
  const now = ctx.clock.now();
  await store.update(ctx.db, tenantId, { purgeAfter: now, updatedAt: now });
  await writeAudit(ctx.db, { at: now, actor: ctx.actor, action: "tenant.purge-asked", tenantId, reason });
}

/** Deleted tenants whose keeping time is over. */
export async function listPurgeable(db: Db, now: Date): Promise<TenantId[]> {
  return store.listPurgeable(db, now);
}

/**
 * Forgets a tenant with everything that hangs on its row, in `ctx.db`'s transaction, which frees its slug, e-mail and
 * chat. What remains is its audit log, with the slug it had.
 */
export async function forgetTenant(ctx: TenantsContext, { id, slug }: Tenant): Promise<void> {
  await store.remove(ctx.db, id);
  const entry = { at: ctx.clock.now(), actor: ctx.actor, action: "tenant.purged", tenantId: id };
  await writeAudit(ctx.db, { ...entry, detail: { slug } });
}

/** When the tenant that `reference`, a slug or id, meant was purged, if one was. */
export async function findPurgedAt(db: Db, reference: string): Promise<Date | undefined> {
  return store.findPurgedAt(db, reference);
}

/** Remembers since when the runtime is meant to sleep. */
export async function setHibernated(db: Db, tenantId: TenantId, at: Date): Promise<void> {
  await store.update(db, tenantId, { hibernatedAt: at });
}

/** Decides which keys the runtime is to have. */
export async function setKeyGeneration(db: Db, tenantId: TenantId, generation: number): Promise<void> {
  await store.update(db, tenantId, { keyGeneration: generation });
}

/** Remembers that entitlement came back while the tenant was being removed. */
export async function setProvisionWhenDeleted(db: Db, tenantId: TenantId, value: boolean): Promise<Tenant> {
  return store.update(db, tenantId, { provisionWhenDeleted: value });
}

/** Moves a tenant to another tier, as part of a change that is audited by its caller's reason. */
export async function setTier(
  ctx: TenantsContext,
  tenantId: TenantId,
  tier: "basic" | "plus",
  reason: string,
): Promise<Tenant> {
  const before = await lockTenant(ctx.db, tenantId);
  if (before.tier === tier) return before;
  const after = await store.update(ctx.db, tenantId, { tier, updatedAt: ctx.clock.now() });
  await writeAudit(ctx.db, {
    at: ctx.clock.now(),
    actor: ctx.actor,
    action: "tenant.updated",
    tenantId,
    reason,
    detail: { fields: ["tier"], tier: `${before.tier} → ${tier}` },
  });
  await enqueueConverge(ctx.db, tenantId);
  return after;
}
