import { type Selectable, sql } from "kysely";
import { addMs } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import type { GrantsToEnd } from "../platform/schema.ts";
import type { Grant } from "./grants.ts";

/** A grant that is to be ended, of no connection any more. */
export type GrantToEnd = Selectable<GrantsToEnd>;

/** Longer than a try takes: whoever was cut off is not waited for any longer. */
const TRY_MS = 2 * 60_000;

/** Has a grant ended from `tryAt` on, by the sweep or whoever takes it up before. One that is noted already stays as it is. */
export async function noteGrant(db: Db, grant: Grant, times: Pick<GrantToEnd, "since" | "tryAt">): Promise<void> {
  await db
    .insertInto("grantsToEnd")
    .values({ ...identify(grant), ...times })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/**
 * Takes it up, noted or not. Whoever is at it already begins again: something may have been written since he looked, and he would
 * leave that behind.
 */
export async function takeGrant(db: Db, grant: Grant, now: Date): Promise<GrantToEnd> {
  const tryAt = addMs(now, TRY_MS);
  return db
    .insertInto("grantsToEnd")
    .values({ ...identify(grant), since: now, tryAt, attempts: 1 })
    .onConflict((conflict) =>
      conflict.column("grantId").doUpdateSet((eb) => ({
        tryAt,
        attempts: eb("grantsToEnd.attempts", "+", 1),
        isTold: false,
      })),
    )
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Takes up one that is noted. @returns undefined when it is not, or not yet due by `dueBy`. */
export async function takeNotedGrant(
  db: Db,
  grantId: string,
  { now, dueBy }: { now: Date; dueBy?: Date },
): Promise<GrantToEnd | undefined> {
  let query = db
    .updateTable("grantsToEnd")
    .set((eb) => ({ tryAt: addMs(now, TRY_MS), attempts: eb("attempts", "+", 1) }))
    .where("grantId", "=", grantId);
  if (dueBy !== undefined) query = query.where("tryAt", "<=", dueBy);
  return query.returningAll().executeTakeFirst();
}

/** Calls its end off, for its connection is made. @returns false when somebody has begun to end it. */
export async function callOffGrant(db: Db, grantId: string): Promise<boolean> {
  const { numDeletedRows } = await db
    .deleteFrom("grantsToEnd")
    .where("grantId", "=", grantId)
    .where("attempts", "=", 0)
    .executeTakeFirst();
  return numDeletedRows === 1n;
}

/** @returns false, having changed nothing, when somebody else has taken it up since. */
export async function updateGrant(
  db: Db,
  { grantId, attempts }: GrantToEnd,
  change: Partial<Pick<GrantToEnd, "tryAt" | "isTold">>,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("grantsToEnd")
    .set(change)
    .where("grantId", "=", grantId)
    .where("attempts", "=", attempts)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Strikes it off. @returns false, having done nothing, when somebody else has taken it up since. */
export async function dropGrant(db: Db, { grantId, attempts }: GrantToEnd): Promise<boolean> {
  const { numDeletedRows } = await db
    .deleteFrom("grantsToEnd")
    .where("grantId", "=", grantId)
    .where("attempts", "=", attempts)
    .executeTakeFirst();
  return numDeletedRows === 1n;
}

/** So many of each provider, the longest due first. */
export async function listGrantsDue(
  db: Db,
  now: Date,
  ofEach: number,
): Promise<Pick<GrantToEnd, "grantId" | "provider">[]> {
  const due = db
    .selectFrom("grantsToEnd")
    .select(["grantId", "provider", "tryAt"])
    .select(sql<number>`row_number() OVER (PARTITION BY provider ORDER BY try_at)`.as("place"))
    .where("tryAt", "<=", now);
  return db
    .selectFrom(due.as("due"))
    .select(["grantId", "provider"])
    .where("place", "<=", ofEach)
    .orderBy("tryAt")
    .execute();
}

/** Due or not. */
export async function listGrantsOf(db: Db, tenantIds: readonly TenantId[]): Promise<GrantToEnd[]> {
  return db
    .selectFrom("grantsToEnd")
    .selectAll()
    .where(sql<boolean>`tenant_id = ANY (${tenantIds}::uuid[])`)
    .orderBy("provider")
    .execute();
}

function identify({ grantId, tenantId, provider, client, accountSubject }: Grant): Grant {
  return { grantId, tenantId, provider, client, accountSubject };
}
