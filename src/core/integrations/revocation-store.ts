import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import type { ConnectionKey } from "./store.ts";

/** Whose provider is to be told now that a grant is over, the longest due first. */
export async function listRevocationsDue(db: Db, now: Date, limit: number): Promise<ConnectionKey[]> {
  return db
    .selectFrom("connections")
    .select(["tenantId", "provider"])
    .where("state", "=", "revoked")
    .where("revokeAt", "<=", now)
    .orderBy("revokeAt")
    .limit(limit)
    .execute();
}

/** Whatever of a tenant's was ever connected, or was about to be: nobody writes tokens without a lease. */
export async function listLeased(db: Db, tenantId: TenantId): Promise<ConnectionKey[]> {
  return db
    .selectFrom("connectionLeases")
    .select(["tenantId", "provider"])
    .where("tenantId", "=", tenantId)
    .orderBy("provider")
    .execute();
}
