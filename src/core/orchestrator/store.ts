import { type Insertable, type Selectable, sql } from "kysely";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import type { RuntimeCredentials, Runtimes } from "../platform/schema.ts";

export type RuntimeRow = Selectable<Runtimes>;
export type CredentialKind = Selectable<RuntimeCredentials>["kind"];

export async function findRuntime(db: Db, tenantId: TenantId): Promise<RuntimeRow | undefined> {
  return db.selectFrom("runtimes").selectAll().where("tenantId", "=", tenantId).executeTakeFirst();
}

export async function putRuntime(db: Db, row: Insertable<Runtimes>): Promise<void> {
  await db
    .insertInto("runtimes")
    .values(row)
    .onConflict((conflict) => conflict.column("tenantId").doUpdateSet(row))
    .execute();
}

/** Notes a failure and gives the number of failures in a row. */
export async function recordFailure(db: Db, tenantId: TenantId, reason: string, at: Date): Promise<number> {
  const row = await db
    .updateTable("runtimes")
    .set((eb) => ({ attempts: eb("attempts", "+", 1), reason, observedAt: at }))
    .where("tenantId", "=", tenantId)
    .returning("attempts")
    .executeTakeFirst();
  return row?.attempts ?? 1;
}

export async function deleteRuntime(db: Db, tenantId: TenantId): Promise<void> {
  await db.deleteFrom("runtimes").where("tenantId", "=", tenantId).execute();
}

/** Writes a hash unless the same one is there. */
export async function putCredential(
  db: Db,
  row: { tenantId: TenantId; kind: CredentialKind; sha256: Buffer; createdAt: Date },
) {
  await db
    .insertInto("runtimeCredentials")
    .values(row)
    .onConflict((conflict) =>
      conflict
        .columns(["tenantId", "kind"])
        .doUpdateSet({ sha256: row.sha256, createdAt: row.createdAt })
        .where("runtimeCredentials.sha256", "!=", row.sha256),
    )
    .execute();
}

export async function findCredential(db: Db, tenantId: TenantId, kind: CredentialKind): Promise<Buffer | undefined> {
  const row = await db
    .selectFrom("runtimeCredentials")
    .select("sha256")
    .where("tenantId", "=", tenantId)
    .where("kind", "=", kind)
    .executeTakeFirst();
  return row?.sha256;
}

export async function deleteCredentials(db: Db, tenantId: TenantId): Promise<void> {
  await db.deleteFrom("runtimeCredentials").where("tenantId", "=", tenantId).execute();
}

export async function findRuntimes(db: Db, tenantIds: readonly TenantId[]): Promise<RuntimeRow[]> {
  return db
    .selectFrom("runtimes")
    .selectAll()
    .where(sql<boolean>`tenant_id = ANY (${tenantIds}::uuid[])`)
    .execute();
}
