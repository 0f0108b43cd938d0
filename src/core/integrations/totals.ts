import { sql } from "kysely";
import type { ProviderId } from "../platform/ids.ts";
import { type ConnectionState, REFRESH_BEFORE_MS } from "./connection.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { listClientTroubles, STATUSES_AT_REST } from "./store.ts";

/** All connections but those at rest. */
export type ConnectionTotals = {
  byState: { provider: ProviderId; state: ConnectionState; count: number }[];
  /** When what has been due for longest, of those that can be renewed here, became so; null: nothing is. */
  oldestDueAt: Date | null;
  refusedClients: ProviderId[];
};

export async function readConnectionTotals({
  db,
  clock,
  providers,
}: Pick<IntegrationsContext, "db" | "clock" | "providers">): Promise<ConnectionTotals> {
  const now = clock.now();
  const expiringFrom = sql<Date>`access_expires_at - greatest(interval '0', least(
    ${REFRESH_BEFORE_MS} * interval '1 millisecond', (access_expires_at - coalesce(refreshed_at, connected_at)) / 2))`;
  const byState = await db
    .selectFrom("connections")
    .innerJoin("tenants", "tenants.id", "connections.tenantId")
    .select(["connections.provider", (eb) => eb.fn.countAll<number>().as("count")])
    .select(
      sql<ConnectionState>`CASE WHEN connections.state = 'active' AND ${expiringFrom} <= ${now} THEN 'expiring'
        ELSE connections.state END`.as("state"),
    )
    .where("tenants.status", "not in", STATUSES_AT_REST)
    // By the column that is shown: of the same name is one of the table's.
    .groupBy(["connections.provider", sql`3`])
    .execute();
  // Nobody renews those of a provider that has no client here; `check` says so.
  const renewable = providers.list().flatMap(({ definition, client }) => (client === undefined ? [] : [definition.id]));
  const oldest =
    renewable.length === 0
      ? undefined
      : await db
          .selectFrom("connections")
          .innerJoin("tenants", "tenants.id", "connections.tenantId")
          .select("refreshAt")
          .where("connections.state", "in", ["active", "error"])
          .where("refreshAt", "<=", now)
          .where("provider", "in", renewable)
          .where("tenants.status", "not in", STATUSES_AT_REST)
          .orderBy("refreshAt")
          .limit(1)
          .executeTakeFirst();
  const refusedClients = (await listClientTroubles(db)).map(({ provider }) => provider);
  return { byState, oldestDueAt: oldest?.refreshAt ?? null, refusedClients };
}
