import type { Providers } from "../adapters/oauth/oauth-provider.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { Tenant } from "../tenants/tenants.ts";
import { listGrantsOf } from "./grant-store.ts";
import { listClientTroubles, listConnections } from "./store.ts";
import { type ConnectionView, viewConnection } from "./view.ts";

/** The connections of these tenants, in their order, and of each by provider. */
export async function viewConnections(
  { db, clock, providers }: { db: Db; clock: Clock; providers: Providers },
  tenants: readonly Tenant[],
): Promise<ConnectionView[]> {
  const now = clock.now();
  const troubles = new Map((await listClientTroubles(db)).map((trouble) => [trouble.provider, trouble]));
  const tenantIds = tenants.map(({ id }) => id);
  const connections = await listConnections(db, { tenantIds });
  const endings = new Map((await listGrantsOf(db, tenantIds)).map((grant) => [grant.grantId, grant]));
  const byTenant = Map.groupBy(connections, ({ tenantId }) => tenantId);
  return tenants.flatMap((tenant) =>
    (byTenant.get(tenant.id) ?? [])
      .toSorted((one, other) => one.provider.localeCompare(other.provider))
      .map((connection) =>
        viewConnection({
          connection,
          tenant,
          provider: providers.find(connection.provider),
          clientTrouble: troubles.get(connection.provider),
          ending: endings.get(connection.grantId),
          now,
        }),
      ),
  );
}
