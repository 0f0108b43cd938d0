import { type Insertable, type Selectable, sql } from "kysely";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import type { KeyRotations } from "../platform/schema.ts";

export type RotationRow = Selectable<KeyRotations>;

/** What a step that went well leaves behind of failures before it. */
const NO_TROUBLE = { attempts: 0, trouble: null };

export async function find(db: Db, tenantId: TenantId): Promise<RotationRow | undefined> {
  return db.selectFrom("keyRotations").selectAll().where("tenantId", "=", tenantId).executeTakeFirst();
}

export async function list(db: Db): Promise<TenantId[]> {
  const rows = await db.selectFrom("keyRotations").select("tenantId").execute();
  return rows.map(({ tenantId }) => tenantId);
}

export async function insert(db: Db, row: Insertable<KeyRotations>): Promise<void> {
  await db.insertInto("keyRotations").values(row).execute();
}

export async function noteMinted(db: Db, tenantId: TenantId, at: Date): Promise<void> {
  await db
    .updateTable("keyRotations")
    .set({ mintedAt: at, ...NO_TROUBLE })
    .where("tenantId", "=", tenantId)
    .where("mintedAt", "is", null)
    .execute();
}

export async function noteAdopted(db: Db, tenantId: TenantId, at: Date): Promise<void> {
  await db
    .updateTable("keyRotations")
    .set({ adoptedAt: at, ...NO_TROUBLE })
    .where("tenantId", "=", tenantId)
    .execute();
}

/** How many runtimes were told since `since` and have not come up yet. */
export async function countSwitching(db: Db, since: Date): Promise<number> {
  const { count } = await db
    .selectFrom("keyRotations")
    .select((eb) => eb.fn.countAll<number>().as("count"))
    .where("adoptedAt", ">", since)
    .where("expiresAt", "is", null)
    .executeTakeFirstOrThrow();
  return count;
}

/** Says until when the old keys hold, if no runtime was seen to have them any more. @returns whether that is so. */
export async function noteSwitched(db: Db, tenantId: TenantId, expiresAt: Date): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("keyRotations")
    .from("runtimes")
    .set({ expiresAt, ...NO_TROUBLE })
    .where("keyRotations.tenantId", "=", tenantId)
    .where("keyRotations.expiresAt", "is", null)
    .whereRef("runtimes.tenantId", "=", "keyRotations.tenantId")
    .where(
      sql<boolean>`CASE runtimes.state
        WHEN 'absent' THEN runtimes.observed_at >= key_rotations.adopted_at
        ELSE runtimes.state IN ('running', 'asleep') AND runtimes.key_generation = key_rotations.to_generation END`,
    )
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** @returns the number of failures in a row. */
export async function noteTrouble(db: Db, tenantId: TenantId, trouble: string): Promise<number> {
  const row = await db
    .updateTable("keyRotations")
    .set({ trouble, attempts: sql`attempts + 1` })
    .where("tenantId", "=", tenantId)
    .returning("attempts")
    .executeTakeFirst();
  return row?.attempts ?? 0;
}

/** @returns false when there was none. */
export async function remove(db: Db, tenantId: TenantId): Promise<boolean> {
  const { numDeletedRows } = await db.deleteFrom("keyRotations").where("tenantId", "=", tenantId).executeTakeFirst();
  return numDeletedRows === 1n;
}
