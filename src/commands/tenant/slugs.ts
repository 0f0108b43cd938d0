import type { Db } from "../../core/platform/db.ts";
import type { TenantId } from "../../core/platform/ids.ts";
import { findTenantById } from "../../core/tenants/tenants.ts";

/** The slugs of the tenants that rows are about; a tenant that was purged has none. */
export async function slugsOf(
  db: Db,
  rows: readonly { tenantId: TenantId | null }[],
): Promise<Map<TenantId | null, string>> {
  const ids = new Set(rows.flatMap(({ tenantId }) => tenantId ?? []));
  const tenants = await Promise.all([...ids].map((id) => findTenantById(db, id)));
  return new Map(tenants.flatMap((tenant) => (tenant === undefined ? [] : [[tenant.id, tenant.slug]])));
}
