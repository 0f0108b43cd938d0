import type { Db } from "../../core/platform/db.ts";
import type { TenantId } from "../../core/platform/ids.ts";
import { listSlugs } from "../../core/tenants/tenants.ts";

/** The slugs of the tenants that rows are about; a tenant that was purged has none. */
export async function slugsOf(
  db: Db,
  rows: readonly { tenantId: TenantId | null }[],
): Promise<ReadonlyMap<TenantId | null, string>> {
  return listSlugs(db, [...new Set(rows.flatMap(({ tenantId }) => tenantId ?? []))]);
}
