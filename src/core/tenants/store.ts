import { type Insertable, type Selectable, sql, type Updateable } from "kysely";
import type { Db } from "../platform/db.ts";
import { parseTenantId, type StampId, type TenantId } from "../platform/ids.ts";
import type { LinkTokens, Tenants } from "../platform/schema.ts";
import type { TenantStatus } from "./transitions.ts";

export type Tenant = Selectable<Tenants>;

export type TenantFilter = { status?: TenantStatus[]; tier?: "basic" | "plus"; tag?: string };

export async function findById(db: Db, id: TenantId): Promise<Tenant | undefined> {
  return db.selectFrom("tenants").selectAll().where("id", "=", id).executeTakeFirst();
}

/** By id or slug, whichever `reference` looks like. */
export async function findByReference(db: Db, reference: string): Promise<Tenant | undefined> {
  const id = parseTenantId(reference);
  if (id !== undefined) return findById(db, id);
  return db.selectFrom("tenants").selectAll().where("slug", "=", reference.toLowerCase()).executeTakeFirst();
}

export async function findByChat(db: Db, chatId: number): Promise<Tenant | undefined> {
  return db.selectFrom("tenants").selectAll().where("telegramChatId", "=", chatId).executeTakeFirst();
}

export async function findByEmail(db: Db, email: string): Promise<Tenant | undefined> {
  return db
    .selectFrom("tenants")
    .selectAll()
    .where((eb) => eb(eb.fn("lower", ["email"]), "=", email.toLowerCase()))
    .executeTakeFirst();
}

export async function list(db: Db, filter: TenantFilter): Promise<Tenant[]> {
  let query = db.selectFrom("tenants").selectAll().orderBy("slug");
  if (filter.status !== undefined && filter.status.length > 0) query = query.where("status", "in", filter.status);
  if (filter.tier !== undefined) query = query.where("tier", "=", filter.tier);
  if (filter.tag !== undefined) query = query.where(sql<boolean>`${filter.tag} = ANY (tags)`);
  return query.execute();
}

/** The slugs of those of the tenants that are there. */
export async function listSlugs(db: Db, ids: readonly TenantId[]): Promise<Map<TenantId, string>> {
  const rows = await db
    .selectFrom("tenants")
    .select(["id", "slug"])
    .where(sql<boolean>`id = ANY (${ids}::uuid[])`)
    .execute();
  return new Map(rows.map(({ id, slug }) => [id, slug]));
}

/** The row, locked until the transaction ends. */
export async function lock(db: Db, id: TenantId): Promise<Tenant | undefined> {
  return db.selectFrom("tenants").selectAll().where("id", "=", id).forUpdate().executeTakeFirst();
}

/** Those of the rows that are there, locked in the order of their ids, so that two callers can't wait for each other. */
export async function lockMany(db: Db, ids: readonly TenantId[]): Promise<Tenant[]> {
  if (ids.length === 0) return [];
  return db.selectFrom("tenants").selectAll().where("id", "in", ids).orderBy("id").forUpdate().execute();
}

export async function insert(db: Db, row: Insertable<Tenants>): Promise<Tenant> {
  return db.insertInto("tenants").values(row).returningAll().executeTakeFirstOrThrow();
}

/** The first stamp with room for another tenant; the first of all when there is none, where provisioning then waits. */
export async function findRoomyStamp(db: Db): Promise<StampId> {
  const { rows } = await sql<{ id: StampId }>`
    SELECT id FROM stamps
    ORDER BY max_runtimes IS NOT NULL
             AND max_runtimes <= (SELECT count(*) FROM tenants WHERE stamp_id = stamps.id AND status <> 'deleted'),
             position, created_at, id
    LIMIT 1`.execute(db);
  return rows[0]?.id ?? ("default" as StampId);
}

export async function update(db: Db, id: TenantId, change: Updateable<Tenants>): Promise<Tenant> {
  return db.updateTable("tenants").set(change).where("id", "=", id).returningAll().executeTakeFirstOrThrow();
}

export async function remove(db: Db, id: TenantId): Promise<void> {
  await db.deleteFrom("tenants").where("id", "=", id).execute();
}

export async function listPurgeable(db: Db, now: Date): Promise<TenantId[]> {
  const rows = await db
    .selectFrom("tenants")
    .select("id")
    .where("status", "=", "deleted")
    .where("purgeAfter", "<=", now)
    .orderBy("purgeAfter")
    .execute();
  return rows.map(({ id }) => id);
}

/** By the slug or id that it had, the latest of several. */
export async function findPurgedAt(db: Db, reference: string): Promise<Date | undefined> {
  const id = parseTenantId(reference);
  const row = await db
    .selectFrom("auditLog")
    .select("at")
    .where("action", "=", "tenant.purged")
    .where(
      id === undefined ? sql<boolean>`detail->>'slug' = ${reference.toLowerCase()}` : sql<boolean>`tenant_id = ${id}`,
    )
    .orderBy("id", "desc")
    .limit(1)
    .executeTakeFirst();
  return row?.at;
}

export async function findIdempotencyKey(db: Db, key: string) {
  return db.selectFrom("idempotencyKeys").selectAll().where("key", "=", key).executeTakeFirst();
}

export async function insertIdempotencyKey(
  db: Db,
  row: { key: string; tenantId: TenantId; requestHash: string; createdAt: Date },
) {
  await db.insertInto("idempotencyKeys").values(row).execute();
}

export async function revokeLinkTokens(db: Db, tenantId: TenantId, at: Date): Promise<void> {
  await db
    .updateTable("linkTokens")
    .set({ revokedAt: at })
    .where("tenantId", "=", tenantId)
    .where("consumedAt", "is", null)
    .where("revokedAt", "is", null)
    .execute();
}

export async function insertLinkToken(db: Db, row: Insertable<LinkTokens>): Promise<void> {
  await db.insertInto("linkTokens").values(row).execute();
}

/** Whose token it is, whatever its state. */
export async function findLinkTokenTenant(db: Db, tokenHash: Buffer): Promise<TenantId | undefined> {
  const row = await db
    .selectFrom("linkTokens")
    .select("tenantId")
    .where("tokenHash", "=", tokenHash)
    .executeTakeFirst();
  return row?.tenantId;
}

/** Marks the token used, for one caller only: false when it is used, revoked or too old. */
export async function consumeLinkToken(db: Db, tokenHash: Buffer, at: Date): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("linkTokens")
    .set({ consumedAt: at })
    .where("tokenHash", "=", tokenHash)
    .where("consumedAt", "is", null)
    .where("revokedAt", "is", null)
    .where("expiresAt", ">", at)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Newest last. */
export async function listAudit(db: Db, tenantId: TenantId, limit: number) {
  const rows = await db
    .selectFrom("auditLog")
    .selectAll()
    .where("tenantId", "=", tenantId)
    .orderBy("id", "desc")
    .limit(limit)
    .execute();
  return rows.toReversed();
}

export async function findByChats(db: Db, chatIds: readonly number[]): Promise<Tenant[]> {
  return db
    .selectFrom("tenants")
    .selectAll()
    .where(sql<boolean>`telegram_chat_id = ANY (${chatIds}::bigint[])`)
    .execute();
}
