import { type Insertable, type Selectable, sql, type Updateable } from "kysely";
import { addMs } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { ProviderId, TenantId } from "../platform/ids.ts";
import type { ClientTroubles, Connections } from "../platform/schema.ts";
import type { TenantStatus } from "../tenants/tenants.ts";
import type { Connection } from "./connection.ts";

export type ConnectionKey = { tenantId: TenantId; provider: ProviderId };

export type ClientTrouble = Selectable<ClientTroubles>;

export type ConnectionFilter = {
  tenantIds?: readonly TenantId[];
  provider?: ProviderId;
  states?: readonly Connection["state"][];
};

/** A connection with all that decides whether its tokens may be used and renewed, of one moment. */
export type Standing = {
  connection: Connection;
  tenantStatus: TenantStatus;
  /** Of its provider. */
  clientTrouble: ClientTrouble | undefined;
};

/** While a provider refuses our client, one connection is tried so often. */
export const PROBE_EVERY_MS = 60_000;

/** Tenants on their way out: their connections are kept, and neither used nor renewed. */
export const STATUSES_AT_REST: readonly TenantStatus[] = ["deprovisioning", "deleted"];

export async function find(db: Db, { tenantId, provider }: ConnectionKey): Promise<Connection | undefined> {
  return db
    .selectFrom("connections")
    .selectAll()
    .where("tenantId", "=", tenantId)
    .where("provider", "=", provider)
    .executeTakeFirst();
}

export async function findStanding(db: Db, { tenantId, provider }: ConnectionKey): Promise<Standing | undefined> {
  const row = await db
    .selectFrom("connections")
    .innerJoin("tenants", "tenants.id", "connections.tenantId")
    .leftJoin("clientTroubles", "clientTroubles.provider", "connections.provider")
    .selectAll("connections")
    .select(["tenants.status as tenantStatus", "clientTroubles.code", "clientTroubles.since", "clientTroubles.probeAt"])
    .where("connections.tenantId", "=", tenantId)
    .where("connections.provider", "=", provider)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  const { tenantStatus, code, since, probeAt, ...connection } = row;
  const hasTrouble = code !== null && since !== null && probeAt !== null;
  return {
    connection,
    tenantStatus,
    clientTrouble: hasTrouble ? { provider, code, since, probeAt } : undefined,
  };
}

/** By tenant and provider. */
export async function listConnections(db: Db, filter: ConnectionFilter = {}): Promise<Connection[]> {
  let query = db.selectFrom("connections").selectAll().orderBy("tenantId").orderBy("provider");
  const { tenantIds, provider, states } = filter;
  if (tenantIds !== undefined) query = query.where(sql<boolean>`tenant_id = ANY (${tenantIds}::uuid[])`);
  if (provider !== undefined) query = query.where("provider", "=", provider);
  if (states !== undefined && states.length > 0) query = query.where("state", "in", states);
  return query.execute();
}

/** @returns whether it is there. */
export async function update(
  db: Db,
  { tenantId, provider }: ConnectionKey,
  change: Updateable<Connections>,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("connections")
    .set(change)
    .where("tenantId", "=", tenantId)
    .where("provider", "=", provider)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Inserts it, or puts it in the place of the one that is there. */
export async function replace(db: Db, row: Insertable<Connections>): Promise<void> {
  await db
    .insertInto("connections")
    .values(row)
    .onConflict((conflict) => conflict.columns(["tenantId", "provider"]).doUpdateSet(row))
    .execute();
}

/**
 * Due connections of a provider, the longest due first, from behind `after` on; those of tenants at rest are left out. The index
 * has them in this order.
 */
export async function listDue(
  db: Db,
  { provider, now, after, limit }: { provider: ProviderId; now: Date; after: DuePlace | undefined; limit: number },
): Promise<DuePlace[]> {
  let query = db
    .selectFrom("connections")
    .innerJoin("tenants", "tenants.id", "connections.tenantId")
    .select(["connections.tenantId", sql<Date>`connections.refresh_at`.as("refreshAt")])
    .where("connections.provider", "=", provider)
    .where("connections.state", "in", ["active", "error"])
    .where("connections.refreshAt", "<=", now)
    .where("tenants.status", "not in", STATUSES_AT_REST)
    .orderBy("connections.refreshAt")
    .orderBy("connections.tenantId")
    .limit(limit);
  if (after !== undefined) {
    query = query.where(
      sql<boolean>`(connections.refresh_at, connections.tenant_id) > (${after.refreshAt}, ${after.tenantId}::uuid)`,
    );
  }
  return query.execute();
}

export type DuePlace = { tenantId: TenantId; refreshAt: Date };

/** Notes that a provider refuses our client; the next is tried at `probeAt`, or at once when this is the first. */
export async function noteClientTrouble(
  db: Db,
  { provider, code, now, probeAt }: { provider: ProviderId; code: string; now: Date; probeAt: Date },
): Promise<void> {
  await db
    .insertInto("clientTroubles")
    .values({ provider, code, since: now, probeAt: now })
    .onConflict((conflict) => conflict.column("provider").doUpdateSet({ code, probeAt }))
    .execute();
}

/** Takes the turn to try whether the provider still refuses our client. @returns whether it was there to be taken. */
export async function takeProbe(db: Db, provider: ProviderId, now: Date, everyMs: number): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("clientTroubles")
    .set({ probeAt: addMs(now, everyMs) })
    .where("provider", "=", provider)
    .where("probeAt", "<=", now)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** The provider takes our client: what was refused for its sake is due at once. @returns whether there was trouble. */
export async function endClientTrouble(db: Db, provider: ProviderId, now: Date): Promise<boolean> {
  return db.transaction().execute(async (tx) => {
    // Whoever deletes the row is the one to free the others; in the order in which failures take the two tables.
    const { numDeletedRows } = await tx
      .deleteFrom("clientTroubles")
      .where("provider", "=", provider)
      .executeTakeFirst();
    if (numDeletedRows === 0n) return false;
    await tx
      .updateTable("connections")
      .set({ refreshAt: now })
      .where("provider", "=", provider)
      .where("state", "=", "error")
      .execute();
    return true;
  });
}

/** Forgets trouble that concerns no connection any more: nobody would try whether it is over. */
export async function forgetIdleTroubles(db: Db): Promise<void> {
  await db
    .deleteFrom("clientTroubles")
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom("connections")
            .innerJoin("tenants", "tenants.id", "connections.tenantId")
            .select("connections.tenantId")
            .whereRef("connections.provider", "=", "clientTroubles.provider")
            .where("connections.state", "in", ["active", "error"])
            .where("tenants.status", "not in", STATUSES_AT_REST),
        ),
      ),
    )
    .execute();
}

export async function listClientTroubles(db: Db): Promise<ClientTrouble[]> {
  return db.selectFrom("clientTroubles").selectAll().orderBy("provider").execute();
}
