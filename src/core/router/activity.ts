import { sql } from "kysely";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";

/** Remembers which runtimes call, and writes it down now and then: a row for each call would cost more than the call. */
export type CallLog = {
  note(tenantId: TenantId): void;
  /** Writes down what was noted since the last time. */
  flush(): Promise<void>;
};

export function createCallLog({ db, clock }: { db: Db; clock: Clock }): CallLog {
  let noted = new Map<TenantId, Date>();
  return {
    note: (tenantId) => void noted.set(tenantId, clock.now()),
    async flush() {
      if (noted.size === 0) return;
      const batch = noted;
      noted = new Map();
      await sql`
        INSERT INTO runtime_calls AS known (tenant_id, at)
        SELECT * FROM unnest(${[...batch.keys()]}::uuid[], ${[...batch.values()]}::timestamptz[]) ORDER BY 1
        ON CONFLICT (tenant_id) DO UPDATE SET at = greatest(known.at, excluded.at)`.execute(db);
    },
  };
}

/** When each of the tenants' runtimes last called; who never did is missing. */
export async function findLastCalls(db: Db, tenantIds: readonly TenantId[]): Promise<Map<TenantId, Date>> {
  const { rows } = await sql<{ tenantId: TenantId; at: Date }>`
    SELECT tenant_id, at FROM runtime_calls WHERE tenant_id = ANY (${tenantIds}::uuid[])`.execute(db);
  return new Map(rows.map(({ tenantId, at }) => [tenantId, at]));
}

/** Forgets when somebody wrote, and when the runtime called. */
export async function forgetTrafficOf(db: Db, tenantId: TenantId): Promise<void> {
  await db.deleteFrom("messageDays").where("tenantId", "=", tenantId).execute();
  await db.deleteFrom("runtimeCalls").where("tenantId", "=", tenantId).execute();
}
