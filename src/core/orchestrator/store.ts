import { type Insertable, type Selectable, sql } from "kysely";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import type { RuntimeCredentials, Runtimes } from "../platform/schema.ts";

export type RuntimeRow = Selectable<Runtimes>;
export type CredentialKind = Selectable<RuntimeCredentials>["kind"];

export async function findRuntime(db: Db, tenantId: TenantId): Promise<RuntimeRow | undefined> {
  return db.selectFrom("runtimes").selectAll().where("tenantId", "=", tenantId).executeTakeFirst();
}

export async function listRuntimes(db: Db): Promise<RuntimeRow[]> {
  return db.selectFrom("runtimes").selectAll().execute();
}

/** Those of the tenants whose convergence waits or runs. */
export async function listConverging(db: Db, tenantIds: readonly TenantId[]): Promise<Set<TenantId>> {
  const keys = tenantIds.map((tenantId) => `converge:${tenantId}`);
  const { rows } = await sql<{ key: string }>`
    SELECT key FROM graphile_worker.jobs WHERE key = ANY (${keys}::text[])`.execute(db);
  const waiting = new Set(rows.map(({ key }) => key));
  return new Set(tenantIds.filter((tenantId) => waiting.has(`converge:${tenantId}`)));
}

/** Notes what was observed, and since when the runtime is in that state. */
export async function putRuntime(db: Db, row: Insertable<Runtimes>): Promise<void> {
  const stateSince = sql<Date>`CASE WHEN runtimes.state = excluded.state THEN runtimes.state_since ELSE excluded.observed_at END`;
  await db
    .insertInto("runtimes")
    .values({ ...row, stateSince: row.observedAt })
    .onConflict((conflict) => conflict.column("tenantId").doUpdateSet({ ...row, stateSince }))
    .execute();
}

/**
 * Notes a failure, also of a runtime that there is none of yet, and gives the number of failures in a row. Those before `since`, when
 * something else was asked of the runtime, don't count.
 */
export async function recordFailure(
  db: Db,
  failure: Pick<RuntimeRow, "tenantId" | "driver" | "image"> & { reason: string; at: Date; since: Date },
): Promise<number> {
  const { reason, at, since, ...runtime } = failure;
  const row = await db
    .insertInto("runtimes")
    .values({ ...runtime, state: "absent", specHash: "", attempts: 1, reason, observedAt: at, stateSince: at })
    .onConflict((conflict) =>
      conflict.column("tenantId").doUpdateSet({
        attempts: sql`CASE WHEN runtimes.observed_at < ${since} THEN 1 ELSE runtimes.attempts + 1 END`,
        reason,
        observedAt: at,
      }),
    )
    .returning("attempts")
    .executeTakeFirstOrThrow();
  return row.attempts;
}

/** Notes why a runtime does not follow yet, also of one that there is none of yet; failures in a row stay what they were. */
export async function recordDeferral(
  db: Db,
  { tenantId, driver, reason, at }: Pick<RuntimeRow, "tenantId" | "driver"> & { reason: string; at: Date },
): Promise<void> {
  await db
    .insertInto("runtimes")
    .values({ tenantId, driver, image: "", state: "absent", specHash: "", reason, observedAt: at, stateSince: at })
    .onConflict((conflict) => conflict.column("tenantId").doUpdateSet({ reason }))
    .execute();
}

/** It is as it should be: failures in a row are counted anew. */
export async function forgetFailures(db: Db, tenantId: TenantId): Promise<void> {
  await db
    .updateTable("runtimes")
    .set({ attempts: 0 })
    .where("tenantId", "=", tenantId)
    .where("attempts", ">", 0)
    .execute();
}

/** Has the router hold what comes for the runtime from now on. */
export async function hideRuntime(db: Db, tenantId: TenantId): Promise<void> {
  await db.updateTable("runtimes").set({ address: null }).where("tenantId", "=", tenantId).execute();
}

/** Has the router hold what `userId` does not write, until it is seen whom the runtime lets in. */
export async function forgetAllowedUser(db: Db, tenantId: TenantId, userId: number | null): Promise<void> {
  await db
    .updateTable("runtimes")
    .set({ allowedUserId: null })
    .where("tenantId", "=", tenantId)
    .where("allowedUserId", "is distinct from", userId)
    .execute();
}

/** Notes since when a tenant that may not run sleeps. One that is active again by now is to be awake. */
export async function noteAsleep(db: Db, tenantId: TenantId, at: Date): Promise<void> {
  await db
    .updateTable("tenants")
    .set({ hibernatedAt: at })
    .where("id", "=", tenantId)
    .where("status", "in", ["pending", "suspended"])
    .execute();
}

/** @returns whether it was asleep, or about to be. */
export async function endHibernation(db: Db, tenantId: TenantId): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("tenants")
    .set({ hibernatedAt: null })
    .where("id", "=", tenantId)
    .where("status", "=", "active")
    .where("hibernatedAt", "is not", null)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Tenants of the tier that sleeps whose runtimes have been up since `before`. */
export async function listSettled(db: Db, before: Date): Promise<TenantId[]> {
  const rows = await db
    .selectFrom("tenants")
    .innerJoin("runtimes", "runtimes.tenantId", "tenants.id")
    .select("tenants.id")
    .where("tenants.status", "=", "active")
    .where("tenants.tier", "=", "basic")
    .where("tenants.hibernatedAt", "is", null)
    .where("runtimes.state", "=", "running")
    .where("runtimes.healthyAt", "<=", before)
    .execute();
  return rows.map(({ id }) => id);
}

export async function deleteRuntime(db: Db, tenantId: TenantId): Promise<void> {
  await db.deleteFrom("runtimes").where("tenantId", "=", tenantId).execute();
}

/** Writes a hash unless the same one is there. */
export async function putCredential(
  db: Db,
  row: { tenantId: TenantId; kind: CredentialKind; generation: number; sha256: Buffer; createdAt: Date },
) {
  await db
    .insertInto("runtimeCredentials")
    .values(row)
    .onConflict((conflict) =>
      conflict
        .columns(["tenantId", "kind", "generation"])
        .doUpdateSet({ sha256: row.sha256, createdAt: row.createdAt })
        .where("runtimeCredentials.sha256", "!=", row.sha256),
    )
    .execute();
}

export type Credential = { sha256: Buffer; expiresAt: Date | null };

/**
 * What holds at the moment: the keys that the runtime is to have, and while they are rotated those of both generations, the old ones
 * until they expire. A hash of any other generation opens nothing, whyever it is there.
 */
export async function findCredentials(db: Db, tenantId: TenantId, kind: CredentialKind): Promise<Credential[]> {
  const { rows } = await sql<Credential>`
    SELECT sha256, CASE WHEN generation = from_generation THEN expires_at END AS expires_at
    FROM runtime_credentials AS credentials
    JOIN tenants ON tenants.id = credentials.tenant_id
    LEFT JOIN key_rotations AS rotation ON rotation.tenant_id = credentials.tenant_id
    WHERE credentials.tenant_id = ${tenantId} AND kind = ${kind}
      AND generation IN (key_generation, from_generation, to_generation)
    ORDER BY generation DESC`.execute(db);
  return rows;
}

/** Since when there have been keys of a generation; undefined: there are none. */
export async function findMintedAt(db: Db, tenantId: TenantId, generation: number): Promise<Date | undefined> {
  const row = await db
    .selectFrom("runtimeCredentials")
    .select("createdAt")
    .where("tenantId", "=", tenantId)
    .where("generation", "=", generation)
    .orderBy("createdAt", "desc")
    .executeTakeFirst();
  return row?.createdAt;
}

/** Those of one generation, or all. */
export async function deleteCredentials(db: Db, tenantId: TenantId, generation?: number): Promise<void> {
  let query = db.deleteFrom("runtimeCredentials").where("tenantId", "=", tenantId);
  if (generation !== undefined) query = query.where("generation", "=", generation);
  await query.execute();
}

/** Notes since when the runtime refuses its webhook secret. @returns false when that was known. */
export async function noteSecretRefused(db: Db, tenantId: TenantId, at: Date): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("runtimes")
    .set({ secretRefusedAt: at })
    .where("tenantId", "=", tenantId)
    .where("secretRefusedAt", "is", null)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export async function noteSecretTaken(db: Db, tenantId: TenantId): Promise<void> {
  await db.updateTable("runtimes").set({ secretRefusedAt: null }).where("tenantId", "=", tenantId).execute();
}

/**
 * SQL for what a router has to know of the runtime of the tenant with the id `tenantId`, an SQL expression, as one JSON value
 * for `parseRuntimeRoute`.
 */
export function runtimeAsJson(tenantId: string): string {
  return `(
    SELECT json_build_object('driver', driver, 'state', state, 'address', address, 'allowedUserId', allowed_user_id, 'healthyAt', healthy_at,
      'reason', reason, 'observedAt', observed_at, 'keyGeneration', key_generation, 'secretRefusedAt', secret_refused_at,
      'otherKeyGeneration', (
        SELECT CASE WHEN from_generation = key_generation THEN to_generation ELSE from_generation END
        FROM key_rotations WHERE key_rotations.tenant_id = runtimes.tenant_id))
    FROM runtimes WHERE runtimes.tenant_id = ${tenantId}
  )`;
}

export type RuntimeRoute = Pick<
  RuntimeRow,
  | "driver"
  | "state"
  | "address"
  | "allowedUserId"
  | "healthyAt"
  | "reason"
  | "observedAt"
  | "keyGeneration"
  | "secretRefusedAt"
> & {
  /** While keys are rotated, those that the runtime may have instead. */
  otherKeyGeneration: number | null;
};
type RuntimeRouteJson = Omit<RuntimeRoute, "healthyAt" | "observedAt" | "secretRefusedAt"> & {
  healthyAt: string | null;
  observedAt: string;
  secretRefusedAt: string | null;
};

export function parseRuntimeRoute(json: RuntimeRouteJson | null): RuntimeRoute | undefined {
  if (json === null) return undefined;
  const { healthyAt, observedAt, secretRefusedAt } = json;
  return {
    ...json,
    healthyAt: healthyAt === null ? null : new Date(healthyAt),
    observedAt: new Date(observedAt),
    secretRefusedAt: secretRefusedAt === null ? null : new Date(secretRefusedAt),
  };
}
