import { sql } from "kysely";
import { addMs } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { ProviderId } from "../platform/ids.ts";
import { type ConnectionState, REFRESH_BEFORE_MS } from "./connection.ts";
import { listClientTroubles, STATUSES_AT_REST } from "./store.ts";

/** All connections but those at rest. */
export type ConnectionTotals = {
  byState: { provider: ProviderId; state: ConnectionState; count: number }[];
  /** When what has been due for longest became so; null: nothing is. */
  oldestDueAt: Date | null;
  refusedClients: ProviderId[];
};

export async function readConnectionTotals(db: Db, now: Date): Promise<ConnectionTotals> {
  const soon = addMs(now, REFRESH_BEFORE_MS);
  const byState = await db
    .selectFrom("connections")
    .innerJoin("tenants", "tenants.id", "connections.tenantId")
    .select(["connections.provider", (eb) => eb.fn.countAll<number>().as("count")])
    .select(
      sql<ConnectionState>`CASE WHEN connections.state = 'active' AND access_expires_at <= ${soon} THEN 'expiring'
        ELSE connections.state END`.as("state"),
    )
    .where("tenants.status", "not in", STATUSES_AT_REST)
    // By the column that is shown: of the same name is one of the table's.
    .groupBy(["connections.provider", sql`3`])
    .execute();
  const oldest = await db
    .selectFrom("connections")
    .innerJoin("tenants", "tenants.id", "connections.tenantId")
    .select("refreshAt")
    .where("connections.state", "in", ["active", "error"])
    .where("refreshAt", "<=", now)
    .where("tenants.status", "not in", STATUSES_AT_REST)
    .orderBy("refreshAt")
    .limit(1)
    .executeTakeFirst();
  const refusedClients = (await listClientTroubles(db)).map(({ provider }) => provider);
  return { byState, oldestDueAt: oldest?.refreshAt ?? null, refusedClients };
}
