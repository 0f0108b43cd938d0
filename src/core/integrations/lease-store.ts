import { sql } from "kysely";
import type { Db } from "../platform/db.ts";
import type { ConnectionKey } from "./store.ts";

/** How long a connection stays with somebody who has gone silent. */
export const LEASE_MS = 15_000;

/**
 * Takes the lease if nobody has it. Of several at once one gets it: the others wait for its row and find it taken.
 * @returns the fence; undefined while another has it.
 */
export async function takeLease(db: Db, { tenantId, provider }: ConnectionKey): Promise<number | undefined> {
  const { rows } = await sql<{ fence: number }>`
    INSERT INTO connection_leases AS lease (tenant_id, provider, fence, lease_until)
    VALUES (${tenantId}, ${provider}, 1, ${leaseEnd()})
    ON CONFLICT (tenant_id, provider) DO UPDATE SET fence = lease.fence + 1, lease_until = excluded.lease_until
      WHERE lease.lease_until IS NULL OR lease.lease_until <= clock_timestamp()
    RETURNING fence`.execute(db);
  return rows[0]?.fence;
}

/** @returns whether nobody has taken it since; one that only ran out is had again. */
export async function renewLease(db: Db, key: ConnectionKey, fence: number): Promise<boolean> {
  const { numUpdatedRows } = await mine(db, key, fence).set({ leaseUntil: leaseEnd() }).executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Gives it back, unless it is another's by now. */
export async function giveLeaseBack(db: Db, key: ConnectionKey, fence: number): Promise<void> {
  await mine(db, key, fence).set({ leaseUntil: null }).execute();
}

/**
 * Locks the lease until the transaction of `db` ends, so that nobody takes it before. Whether it has run out is no matter: as long as
 * nobody has taken it, nobody has begun anything.
 * @returns whether it is still this one's.
 */
export async function lockLease(db: Db, { tenantId, provider }: ConnectionKey, fence: number): Promise<boolean> {
  const row = await db
    .selectFrom("connectionLeases")
    .select("fence")
    .where("tenantId", "=", tenantId)
    .where("provider", "=", provider)
    .where("fence", "=", fence)
    .forUpdate()
    .executeTakeFirst();
  return row !== undefined;
}

function mine(db: Db, { tenantId, provider }: ConnectionKey, fence: number) {
  return db
    .updateTable("connectionLeases")
    .where("tenantId", "=", tenantId)
    .where("provider", "=", provider)
    .where("fence", "=", fence);
}

/** By the clock of the database at this very moment: `now()` is that of the transaction's begin. */
function leaseEnd() {
  return sql<Date>`clock_timestamp() + ${LEASE_MS} * interval '1 millisecond'`;
}
