import { type Insertable, type Selectable, sql } from "kysely";
import type { Db } from "../../platform/db.ts";
import type { ReleaseId, RolloutId, TenantId } from "../../platform/ids.ts";
import type { Rollouts } from "../../platform/schema.ts";
import type { TenantFilter } from "../../tenants/tenants.ts";
import type { RolloutStatus, RolloutStep, RolloutTenant } from "./judge.ts";
import type { TargetState } from "./targets.ts";

export type Rollout = Omit<Selectable<Rollouts>, "selector"> & { selector: RolloutSelector; isReleaseFailed: boolean };

/** Whom it is about; who neither runs nor sleeps is left out in any case. */
export type RolloutSelector = Pick<TenantFilter, "tier" | "tag"> & { status?: ("active" | "suspended")[] };

const OPEN: readonly RolloutStatus[] = ["running", "paused", "halted"];

function selectRollouts(db: Db) {
  return (
    db
      .selectFrom("rollouts")
      .innerJoin("fleetReleases", "fleetReleases.id", "rollouts.releaseId")
      .selectAll("rollouts")
      // Written by insertRollout alone.
      .$narrowType<{ selector: RolloutSelector }>()
      .select(sql<boolean>`failed_at IS NOT NULL`.as("isReleaseFailed"))
  );
}

/** The rollout, which nobody else decides about until the transaction ends. */
export async function lockRollout(db: Db, id: RolloutId): Promise<Rollout | undefined> {
  return selectRollouts(db).where("rollouts.id", "=", id).forUpdate("rollouts").executeTakeFirst();
}

/** The one that is not over, likewise. */
export async function lockOpenRollout(db: Db): Promise<Rollout | undefined> {
  return selectRollouts(db).where("rollouts.status", "in", OPEN).forUpdate("rollouts").executeTakeFirst();
}

export async function findOpenRollout(db: Db): Promise<Rollout | undefined> {
  return selectRollouts(db).where("rollouts.status", "in", OPEN).executeTakeFirst();
}

/** The one with the id, or the latest. */
export async function findRollout(db: Db, id: RolloutId | undefined): Promise<Rollout | undefined> {
  const rollouts = selectRollouts(db).orderBy("rollouts.id", "desc").limit(1);
  return (id === undefined ? rollouts : rollouts.where("rollouts.id", "=", id)).executeTakeFirst();
}

/** @param tenants in the order in which they are to move. */
export async function insertRollout(
  db: Db,
  row: Insertable<Rollouts>,
  tenants: readonly { tenantId: TenantId; cohort: number }[],
): Promise<RolloutId> {
  const { id } = await db.insertInto("rollouts").values(row).returning("id").executeTakeFirstOrThrow();
  await sql`
    INSERT INTO rollout_tenants (rollout_id, tenant_id, position, cohort, state)
    SELECT ${id}, tenant_id, position, cohort, 'pending'
      FROM unnest(${tenants.map(({ tenantId }) => tenantId)}::uuid[], ${tenants.map(({ cohort }) => cohort)}::integer[])
           WITH ORDINALITY AS listed (tenant_id, cohort, position)`.execute(db);
  return id;
}

type TenantRow = Omit<RolloutTenant, "status" | "target"> & {
  status: RolloutTenant["status"] | null;
  targetReleaseId: ReleaseId | null;
  targetState: TargetState;
  targetStateAt: Date;
};

/** All of them in their order, with what was last seen of their runtimes. */
export async function readRolloutTenants(db: Db, rolloutId: RolloutId): Promise<RolloutTenant[]> {
  const { rows } = await sql<TenantRow>`
    SELECT moved.tenant_id AS "tenantId", moved.cohort, moved.state, moved.started_at AS "startedAt",
           moved.failed_at IS NOT NULL AS "hasFailed", moved.back_to_release_id AS "backToReleaseId",
           tenants.status, target.release_id AS "targetReleaseId", target.state AS "targetState",
           target.state_at AS "targetStateAt", coalesce(runtimes.attempts, 0) AS attempts, runtimes.reason AS trouble
      FROM rollout_tenants AS moved
      LEFT JOIN tenants ON tenants.id = moved.tenant_id
      LEFT JOIN runtime_targets AS target ON target.tenant_id = moved.tenant_id
      LEFT JOIN runtimes ON runtimes.tenant_id = moved.tenant_id
     WHERE moved.rollout_id = ${rolloutId}
     ORDER BY moved.position`.execute(db);
  return rows.map(({ targetReleaseId, targetState, targetStateAt, status, ...row }) => ({
    ...row,
    status: status ?? undefined,
    target:
      targetReleaseId === null ? undefined : { releaseId: targetReleaseId, state: targetState, stateAt: targetStateAt },
  }));
}

type Move = { rolloutId: RolloutId; releaseId: ReleaseId; at: Date };

/** Gives those of the tenants that have not moved yet the rollout's release. @returns them, and what they had before. */
export async function startTenants(
  db: Db,
  { rolloutId, releaseId, at }: Move,
  tenantIds: readonly TenantId[],
): Promise<{ tenantId: TenantId; fromReleaseId: ReleaseId | null }[]> {
  await forgetAttempts(db, tenantIds);
  const { rows } = await sql<{ tenantId: TenantId; fromReleaseId: ReleaseId | null }>`
    UPDATE rollout_tenants AS moved
       SET state = 'moving', started_at = ${at},
           back_to_release_id = nullif(
             coalesce(nullif(target.last_good_release_id, ${releaseId}), target.release_id, current_release_id),
             ${releaseId})
      FROM unnest(${tenantIds}::uuid[]) AS asked (tenant_id)
     CROSS JOIN fleet_settings
      LEFT JOIN runtime_targets AS target USING (tenant_id)
     WHERE moved.rollout_id = ${rolloutId} AND moved.tenant_id = asked.tenant_id AND moved.state = 'pending'
    RETURNING moved.tenant_id AS "tenantId", coalesce(target.release_id, current_release_id) AS "fromReleaseId"`.execute(
    db,
  );
  await sql`
    INSERT INTO runtime_targets (tenant_id, release_id, state, state_at)
    SELECT tenant_id, ${releaseId}, 'set', ${at} FROM unnest(${rows.map((row) => row.tenantId)}::uuid[]) AS moved (tenant_id)
    ON CONFLICT (tenant_id) DO UPDATE SET release_id = excluded.release_id, state = 'set', state_at = excluded.state_at`.execute(
    db,
  );
  return rows;
}

type Settlement = Extract<RolloutStep, { kind: "settle" }>;

export async function settleTenants(db: Db, { rolloutId, at }: Move, settled: readonly Settlement[]): Promise<void> {
  await sql`
    UPDATE rollout_tenants AS moved
       SET state = said.state, ended_at = ${at}, reason = nullif(concat_ws('; ', moved.reason, said.reason), '')
      FROM unnest(
        ${settled.map(({ tenantId }) => tenantId)}::uuid[],
        ${settled.map(({ state }) => state)}::text[],
        ${settled.map(({ reason }) => reason ?? null)}::text[]
      ) AS said (tenant_id, state, reason)
     WHERE moved.rollout_id = ${rolloutId} AND moved.tenant_id = said.tenant_id`.execute(db);
}

type TakenBack = Extract<RolloutStep, { kind: "take-back" }>;

/** Gives tenants back what they ran before, unless somebody gave them something else meanwhile. */
export async function takeBackTenants(
  db: Db,
  { rolloutId, releaseId, at }: Move,
  taken: readonly TakenBack[],
): Promise<void> {
  const tenantIds = taken.map(({ tenantId }) => tenantId);
  await forgetAttempts(db, tenantIds);
  await sql`
    UPDATE rollout_tenants AS moved
       SET state = 'rolling-back', ended_at = NULL, reason = said.reason,
           failed_at = CASE WHEN said.is_failure THEN ${at} ELSE moved.failed_at END
      FROM unnest(
        ${tenantIds}::uuid[],
        ${taken.map(({ reason }) => reason)}::text[],
        ${taken.map(({ isFailure }) => isFailure)}::boolean[]
      ) AS said (tenant_id, reason, is_failure)
     WHERE moved.rollout_id = ${rolloutId} AND moved.tenant_id = said.tenant_id`.execute(db);
  await sql`
    UPDATE runtime_targets AS target SET release_id = said.release_id, state = 'set', state_at = ${at}
      FROM unnest(${tenantIds}::uuid[], ${taken.map(({ to }) => to)}::integer[]) AS said (tenant_id, release_id)
     WHERE target.tenant_id = said.tenant_id AND target.release_id = ${releaseId}`.execute(db);
}

type GivenUp = Extract<RolloutStep, { kind: "give-up" }>;

export async function giveTenantsUp(db: Db, { rolloutId, at }: Move, givenUp: readonly GivenUp[]): Promise<void> {
  await sql`
    UPDATE rollout_tenants AS moved SET state = 'failed', ended_at = ${at}, failed_at = ${at}, reason = said.reason
      FROM unnest(${givenUp.map(({ tenantId }) => tenantId)}::uuid[], ${givenUp.map(({ reason }) => reason)}::text[])
           AS said (tenant_id, reason)
     WHERE moved.rollout_id = ${rolloutId} AND moved.tenant_id = said.tenant_id`.execute(db);
}

/** What failed before says nothing about what comes now. */
async function forgetAttempts(db: Db, tenantIds: readonly TenantId[]): Promise<void> {
  await sql`UPDATE runtimes SET attempts = 0, reason = NULL WHERE tenant_id = ANY (${tenantIds}::uuid[])`.execute(db);
}

export async function setRollout(
  db: Db,
  id: RolloutId,
  change: Partial<
    Pick<
      Rollout,
      "status" | "statusReason" | "takesBack" | "parallel" | "maxFailures" | "lookedAt" | "attendedSince" | "endedAt"
    >
  >,
): Promise<void> {
  await db.updateTable("rollouts").set(change).where("id", "=", id).execute();
}

/** Rollouts in which something may be due: those under way, and those whose sleepers have been woken since. */
export async function listUnfinished(db: Db): Promise<RolloutId[]> {
  const { rows } = await sql<{ id: RolloutId }>`
    SELECT id FROM rollouts WHERE status = 'running' OR (status = 'aborted' AND takes_back AND EXISTS (
      SELECT FROM rollout_tenants AS moved JOIN runtime_targets AS target USING (tenant_id)
       WHERE moved.rollout_id = rollouts.id AND moved.state IN ('healthy', 'moved-asleep')
         AND target.release_id = rollouts.release_id AND moved.back_to_release_id IS NOT NULL))
    UNION
    SELECT moved.rollout_id FROM rollout_tenants AS moved
      JOIN rollouts ON rollouts.id = moved.rollout_id
      LEFT JOIN runtime_targets AS target USING (tenant_id)
     WHERE moved.state IN ('moving', 'rolling-back')
        OR (moved.state = 'moved-asleep' AND target.release_id = rollouts.release_id AND target.state IN ('waking', 'good'))
     ORDER BY 1`.execute(db);
  return rows.map(({ id }) => id);
}

/** Where the tenants stand: what each is to run, and whether its runtime was last seen running. */
export async function readStandings(
  db: Db,
  tenantIds: readonly TenantId[],
): Promise<{ tenantId: TenantId; releaseId: ReleaseId | null; state: TargetState | null; isRunning: boolean }[]> {
  const { rows } = await sql<{
    tenantId: TenantId;
    releaseId: ReleaseId | null;
    state: TargetState | null;
    isRunning: boolean;
  }>`
    SELECT tenant_id AS "tenantId", target.release_id AS "releaseId", target.state,
           coalesce(runtimes.state = 'running', false) AS "isRunning"
      FROM unnest(${tenantIds}::uuid[]) WITH ORDINALITY AS asked (tenant_id, position)
      LEFT JOIN runtime_targets AS target USING (tenant_id)
      LEFT JOIN runtimes USING (tenant_id)
     ORDER BY position`.execute(db);
  return rows;
}
