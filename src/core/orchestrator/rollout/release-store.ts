import { type Selectable, sql } from "kysely";
import type { Db } from "../../platform/db.ts";
import type { ReleaseId } from "../../platform/ids.ts";
import type { FleetReleases, FleetSettings } from "../../platform/schema.ts";
import type { Release, ReleaseContent } from "./release.ts";

export type SettingsRow = Pick<Selectable<FleetSettings>, "currentReleaseId" | "environmentReleaseId">;

export async function readSettings(db: Db): Promise<SettingsRow> {
  return db.selectFrom("fleetSettings").select(["currentReleaseId", "environmentReleaseId"]).executeTakeFirstOrThrow();
}

/** Has whoever else changes the fleet's releases or rollouts wait until the transaction ends. */
export async function lockSettings(db: Db): Promise<SettingsRow> {
  return db
    .selectFrom("fleetSettings")
    .select(["currentReleaseId", "environmentReleaseId"])
    .forUpdate()
    .executeTakeFirstOrThrow();
}

export async function findRelease(db: Db, id: ReleaseId): Promise<Release | undefined> {
  const row = await db.selectFrom("fleetReleases").selectAll().where("id", "=", id).executeTakeFirst();
  return row && toRelease(row);
}

export async function findReleaseLike(db: Db, content: ReleaseContent): Promise<Release | undefined> {
  const row = await db
    .selectFrom("fleetReleases")
    .selectAll()
    .where("image", "=", content.image)
    .where(sql<boolean>`models = ${JSON.stringify(content.modelsByTier)}::jsonb`)
    .executeTakeFirst();
  return row && toRelease(row);
}

/** The release that failed with this image last. */
export async function findFailureOf(db: Db, image: string): Promise<Release | undefined> {
  const row = await db
    .selectFrom("fleetReleases")
    .selectAll()
    .where("image", "=", image)
    .where("failedAt", "is not", null)
    .orderBy("failedAt", "desc")
    .limit(1)
    .executeTakeFirst();
  return row && toRelease(row);
}

/** The release that was current before `id`, and did not fail. */
export async function findPrevious(db: Db, id: ReleaseId): Promise<Release | undefined> {
  const row = await db
    .selectFrom("fleetReleases")
    .selectAll()
    .where("id", "!=", id)
    .where("currentAt", "is not", null)
    .where("failedAt", "is", null)
    .orderBy("currentAt", "desc")
    .limit(1)
    .executeTakeFirst();
  return row && toRelease(row);
}

/** The release with this content, made if there is none; one at a time makes them. */
export async function putRelease(
  db: Db,
  content: ReleaseContent,
  { at, by }: { at: Date; by: string },
): Promise<Release> {
  const known = await findReleaseLike(db, content);
  if (known !== undefined) return known;
  const row = await db
    .insertInto("fleetReleases")
    .values({
      image: content.image,
      models: JSON.stringify(content.modelsByTier),
      createdAt: at,
      createdBy: by,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  return toRelease(row);
}

export async function setCurrent(db: Db, id: ReleaseId, at: Date): Promise<void> {
  await db.updateTable("fleetSettings").set({ currentReleaseId: id }).execute();
  await db.updateTable("fleetReleases").set({ currentAt: at }).where("id", "=", id).execute();
}

export async function setEnvironment(db: Db, id: ReleaseId): Promise<void> {
  await db.updateTable("fleetSettings").set({ environmentReleaseId: id }).execute();
}

export async function markFailed(db: Db, id: ReleaseId, at: Date, reason: string): Promise<void> {
  await db.updateTable("fleetReleases").set({ failedAt: at, failedReason: reason }).where("id", "=", id).execute();
}

export async function forgetFailure(db: Db, id: ReleaseId): Promise<void> {
  await db.updateTable("fleetReleases").set({ failedAt: null, failedReason: null }).where("id", "=", id).execute();
}

/** Every release with how many tenants are to run it, the newest first. */
export async function listReleases(db: Db): Promise<(Release & { tenants: number })[]> {
  const rows = await db
    .selectFrom("fleetReleases")
    .selectAll()
    .select(
      sql<number>`(SELECT count(*) FROM runtime_targets WHERE runtime_targets.release_id = fleet_releases.id)`.as(
        "tenants",
      ),
    )
    .orderBy("id", "desc")
    .execute();
  return rows.map(({ tenants, ...row }) => ({ ...toRelease(row), tenants }));
}

function toRelease({ models, ...row }: Selectable<FleetReleases>): Release {
  return { ...row, modelsByTier: parseModels(models) };
}

/** What `models` holds is written by `putRelease` alone. */
export function parseModels(models: unknown): ReleaseContent["modelsByTier"] {
  return models as ReleaseContent["modelsByTier"];
}
