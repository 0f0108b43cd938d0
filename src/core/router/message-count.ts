import { sql } from "kysely";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";

/**
 * How many messages reached a tenant's runtime today and in a month, both as the tenant's time zone has them.
 * @param month YYYY-MM.
 */
export async function countMessages(
  { db, clock }: { db: Db; clock: Clock },
  tenantId: TenantId,
  month: string,
): Promise<{ today: number; month: number }> {
  const { rows } = await sql<{ today: number; month: number }>`
    SELECT coalesce(sum(messages) FILTER (WHERE day = (${clock.now()}::timestamptz AT TIME ZONE time_zone)::date), 0)::bigint
        AS today,
      coalesce(sum(messages) FILTER (WHERE to_char(day, 'YYYY-MM') = ${month}), 0)::bigint AS month
    FROM tenants LEFT JOIN message_days ON message_days.tenant_id = tenants.id
    WHERE tenants.id = ${tenantId} GROUP BY tenants.id`.execute(db);
  return rows[0] ?? { today: 0, month: 0 };
}
