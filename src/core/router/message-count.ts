import { sql } from "kysely";
import { addMs, type Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";

/** What is finished may take so long until it is committed, and seen. */
const SETTLED_MS = 60_000;
/** Counted at once, at most. */
const SPAN_MS = 3_600_000;

/** Deliveries of a span of time, by their tenant's day, as SQL. */
function countSpan(from: Date, until: Date) {
  return sql`
    SELECT tenants.id AS tenant_id, (accepted_at AT TIME ZONE time_zone)::date AS day, count(*) AS messages,
      max(finished_at) AS last_at
    FROM telegram_updates JOIN tenants ON tenants.id = telegram_updates.tenant_id
    WHERE finished_at > ${from} AND finished_at <= ${until} AND outcome = 'delivered'
    GROUP BY 1, 2`;
}

/** Counts what was delivered since the last time, each update once, whoever does it. */
export async function countDeliveries({ db, clock }: { db: Db; clock: Clock }, signal: AbortSignal): Promise<void> {
  const settled = addMs(clock.now(), -SETTLED_MS);
  for (let isDone = false; !isDone && !signal.aborted;) {
    isDone = await db.transaction().execute(async (tx) => {
      const { countedUntil } = await tx
        .selectFrom("messageCounting")
        .select("countedUntil")
        .forUpdate()
        .executeTakeFirstOrThrow();
      if (countedUntil >= settled) return true;
      const step = addMs(countedUntil, SPAN_MS);
      const until = step < settled ? step : settled;
      await sql`
        INSERT INTO message_days AS so_far (tenant_id, day, messages, last_at)
        SELECT * FROM (${countSpan(countedUntil, until)}) AS counted
        ON CONFLICT (tenant_id, day) DO UPDATE SET messages = so_far.messages + excluded.messages,
          last_at = greatest(so_far.last_at, excluded.last_at)`.execute(tx);
      await tx.updateTable("messageCounting").set({ countedUntil: until }).execute();
      return until >= settled;
    });
  }
}

/**
 * How many messages reached a tenant's runtime today and in a month, both as the tenant's time zone has them, up to this moment.
 * @param month YYYY-MM.
 */
export async function countMessages(
  { db, clock }: { db: Db; clock: Clock },
  tenantId: TenantId,
  month: string,
): Promise<{ today: number; month: number }> {
  const now = clock.now();
  // One snapshot: what is counted meanwhile must not be counted twice.
  const { rows } = await sql<{ today: number; month: number }>`
    WITH days AS (
      SELECT day, messages FROM message_days WHERE tenant_id = ${tenantId}
      UNION ALL
      SELECT (accepted_at AT TIME ZONE time_zone)::date, 1
      FROM telegram_updates JOIN tenants ON tenants.id = telegram_updates.tenant_id
      WHERE finished_at > (SELECT counted_until FROM message_counting) AND outcome = 'delivered' AND tenants.id = ${tenantId}
    )
    SELECT coalesce(sum(messages) FILTER (WHERE day = (${now}::timestamptz AT TIME ZONE time_zone)::date), 0)::bigint AS today,
      coalesce(sum(messages) FILTER (WHERE to_char(day, 'YYYY-MM') = ${month}), 0)::bigint AS month
    FROM tenants LEFT JOIN days ON true WHERE tenants.id = ${tenantId}`.execute(db);
  return rows[0] ?? { today: 0, month: 0 };
}

/** When each of the tenants last had an update delivered; who never did is missing. */
export async function findLastDeliveries(db: Db, tenantIds: readonly TenantId[]): Promise<Map<TenantId, Date>> {
  const { rows } = await sql<{ tenantId: TenantId; at: Date }>`
    SELECT tenant_id, max(at) AS at FROM (
      SELECT tenant_id, last_at AS at FROM message_days WHERE tenant_id = ANY (${tenantIds}::uuid[])
      UNION ALL
      SELECT tenant_id, finished_at FROM telegram_updates
      WHERE finished_at > (SELECT counted_until FROM message_counting) AND outcome = 'delivered'
        AND tenant_id = ANY (${tenantIds}::uuid[])
    ) AS delivered GROUP BY tenant_id`.execute(db);
  return new Map(rows.map(({ tenantId, at }) => [tenantId, at]));
}
