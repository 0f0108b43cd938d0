import { type Selectable, sql } from "kysely";
import type { Db } from "../../platform/db.ts";
import type { ReleaseId, TenantId } from "../../platform/ids.ts";
import type { RuntimeTargets } from "../../platform/schema.ts";
import type { FleetSettings } from "../spec.ts";
import { parseModels } from "./release-store.ts";

export type TargetState = Selectable<RuntimeTargets>["state"];

/** What one tenant's runtime is to be made of, and how far it has come with that. */
export type Target = {
  settings: FleetSettings;
  /** Undefined while the environment says what runtimes are made of. */
  releaseId: ReleaseId | undefined;
  /** Undefined while the tenant has no target of its own. */
  state: TargetState | undefined;
  /** On its way to its release in a rollout: nobody waits for it. */
  isMoving: boolean;
};

type TargetRow = {
  tenantId: TenantId;
  releaseId: ReleaseId | null;
  image: string | null;
  models: unknown;
  state: TargetState | null;
  isMoving: boolean;
};

/** The targets of all of the tenants, in one query. `environment` counts while no release was made. */
export async function readTargets(
  db: Db,
  tenantIds: readonly TenantId[],
  environment: FleetSettings,
): Promise<ReadonlyMap<TenantId, Target>> {
  const { rows } = await sql<TargetRow>`
    SELECT tenant_id AS "tenantId", release.id AS "releaseId", image, models, state,
           EXISTS (SELECT FROM rollout_tenants AS moved
             WHERE moved.tenant_id = tenant.tenant_id AND moved.state = 'moving') AS "isMoving"
      FROM unnest(${tenantIds}::uuid[]) AS tenant (tenant_id)
     CROSS JOIN fleet_settings
      LEFT JOIN runtime_targets AS target USING (tenant_id)
      LEFT JOIN fleet_releases AS release ON release.id = coalesce(target.release_id, current_release_id)`.execute(db);
  return new Map(rows.map((row) => [row.tenantId, toTarget(row, environment)]));
}

export async function readTarget(db: Db, tenantId: TenantId, environment: FleetSettings): Promise<Target> {
  const target = (await readTargets(db, [tenantId], environment)).get(tenantId);
  if (target === undefined) throw new Error(`no target was read for tenant ${tenantId}`);
  return target;
}

function toTarget(row: TargetRow, environment: FleetSettings): Target {
  const { releaseId, image, models, state, isMoving } = row;
  const settings = image === null ? environment : { ...environment, image, modelsByTier: parseModels(models) };
  return { settings, releaseId: releaseId ?? undefined, state: state ?? undefined, isMoving };
}

/** Has a tenant that is brought up keep the release that it found, unless it has one already. */
export async function keepTarget(db: Db, tenantId: TenantId, { releaseId }: Target, at: Date): Promise<void> {
  if (releaseId === undefined) return;
  await db
    .insertInto("runtimeTargets")
    .values({ tenantId, releaseId, state: "set", stateAt: at })
    .onConflict((conflict) => conflict.column("tenantId").doNothing())
    .execute();
}

/** Notes how far the runtime has come with the target it was made by; one that was set meanwhile is left alone. */
export async function noteTarget(
  db: Db,
  tenantId: TenantId,
  { releaseId }: Target,
  { state, at }: { state: TargetState; at: Date },
): Promise<void> {
  if (releaseId === undefined) return;
  await db
    .updateTable("runtimeTargets")
    .set({ state, stateAt: at, ...(state === "good" ? { lastGoodReleaseId: releaseId } : {}) })
    .where("tenantId", "=", tenantId)
    .where("releaseId", "=", releaseId)
    .where("state", "!=", state)
    .execute();
}

/** A tenant that is brought up again some day gets what new tenants get then. */
export async function forgetTarget(db: Db, tenantId: TenantId): Promise<void> {
  await db.deleteFrom("runtimeTargets").where("tenantId", "=", tenantId).execute();
}

/** Has every tenant that runs keep running `releaseId`, which is what all of them were made of so far. */
export async function pinAll(db: Db, releaseId: ReleaseId, at: Date): Promise<void> {
  await sql`
    INSERT INTO runtime_targets (tenant_id, release_id, last_good_release_id, state, state_at)
    SELECT tenants.id, ${releaseId}, CASE WHEN seen.is_good THEN ${releaseId}::integer END,
           CASE WHEN seen.is_good THEN 'good' ELSE 'set' END, ${at}
      FROM tenants
      LEFT JOIN LATERAL (
        SELECT state IN ('running', 'asleep') AS is_good FROM runtimes WHERE runtimes.tenant_id = tenants.id
      ) AS seen ON true
     WHERE status IN ('provisioning', 'active', 'suspended')
    ON CONFLICT (tenant_id) DO NOTHING`.execute(db);
}

export async function hasRuntimes(db: Db): Promise<boolean> {
  return (await db.selectFrom("runtimes").select("tenantId").limit(1).executeTakeFirst()) !== undefined;
}

/** What runtimes may ask for: the models of every release that some tenant is to run, or ran last. */
export async function readModelsInUse(
  db: Db,
  environment: FleetSettings["modelsByTier"],
): Promise<FleetSettings["modelsByTier"]> {
  const { rows } = await sql<{ models: unknown }>`
    SELECT models FROM fleet_releases WHERE id IN (
      SELECT current_release_id FROM fleet_settings UNION SELECT release_id FROM runtime_targets
      UNION SELECT last_good_release_id FROM runtime_targets)`.execute(db);
  const inUse = rows.length === 0 ? [environment] : rows.map(({ models }) => parseModels(models));
  return {
    basic: [...new Set(inUse.flatMap(({ basic }) => basic))],
    plus: [...new Set(inUse.flatMap(({ plus }) => plus))],
  };
}
