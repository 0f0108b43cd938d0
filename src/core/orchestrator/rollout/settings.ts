import { writeAudit } from "../../platform/audit.ts";
import type { Db } from "../../platform/db.ts";
import { ConflictError, NotFoundError } from "../../platform/errors.ts";
import type { ReleaseId } from "../../platform/ids.ts";
import type { TenantsContext } from "../../tenants/tenants.ts";
import { changeContent, checkImage, type Release, type ReleaseChange, type ReleaseContent } from "./release.ts";
import * as store from "./release-store.ts";
import { findOpenRollout } from "./rollout-store.ts";
import { hasRuntimes, pinAll } from "./targets.ts";

export type FleetContext = TenantsContext & {
  /** What the environment of this process says; it counts while nothing else is known. */
  environment: ReleaseContent;
};

export type SettingsInForce = {
  /** Who says what new tenants get: an operator, the environment of the daemons, or only that of this process. */
  source: "operator" | "daemons" | "environment";
  inForce: ReleaseContent;
  /** Undefined while only this process's environment says. */
  release: Release | undefined;
  /** What the environment of the daemon said that started last; undefined: none has yet. */
  environment: Release | undefined;
  releases: (Release & { tenants: number })[];
};

export async function readSettingsInForce({
  db,
  environment,
}: Pick<FleetContext, "db" | "environment">): Promise<SettingsInForce> {
  const { currentReleaseId, environmentReleaseId } = await store.readSettings(db);
  const releases = await store.listReleases(db);
  const byId = (id: ReleaseId | null) => releases.find((release) => release.id === id);
  const release = byId(currentReleaseId ?? environmentReleaseId);
  return {
    source: currentReleaseId !== null ? "operator" : release === undefined ? "environment" : "daemons",
    inForce: release ?? environment,
    release,
    environment: byId(environmentReleaseId),
    releases,
  };
}

/**
 * Remembers what a daemon's environment says, so that what runs while nothing else counts can be named later.
 * @returns the release that counts instead, if there is one and it is another.
 */
export async function noteEnvironment({ db, clock, environment }: FleetContext): Promise<Release | undefined> {
  return db.transaction().execute(async (tx) => {
    const { currentReleaseId } = await store.lockSettings(tx);
    const noted = await store.putRelease(tx, environment, { at: clock.now(), by: "environment" });
    await store.setEnvironment(tx, noted.id);
    if (currentReleaseId === null || currentReleaseId === noted.id) return undefined;
    return store.findRelease(tx, currentReleaseId);
  });
}

/**
 * Names what tenants get that are provisioned from now on; those that run keep what they have until a rollout.
 * @throws UsageError for an image that is not named for good, ConflictError for one that failed unless forced, and while a rollout is
 * under way.
 */
export async function setSettings(
  ctx: FleetContext,
  change: ReleaseChange,
  { force }: { force: boolean },
): Promise<Release> {
  if (change.image !== undefined) checkImage(change.image);
  return ctx.db.transaction().execute(async (tx) => {
    const inside = { ...ctx, db: tx };
    const before = await takeSettingsOver(inside);
    await refuseDuringRollout(tx);
    const release = await makeRelease(inside, before, change, { force });
    if (release.id === before.id) return release;
    const at = ctx.clock.now();
    await store.setCurrent(tx, release.id, at);
    const detail = { from: before.id, to: release.id, image: release.image, models: release.modelsByTier };
    await writeAudit(tx, { at, actor: ctx.actor, action: "fleet.settings", detail });
    return { ...release, currentAt: at };
  });
}

/** @throws ConflictError while a rollout is not over. */
export async function refuseDuringRollout(db: Db): Promise<void> {
  const open = await findOpenRollout(db);
  if (open === undefined) return;
  throw new ConflictError(
    "rollout_under_way",
    `Rollout ${open.id} is ${open.status}; one at a time. See: openclaw fleet rollout status. End it with: openclaw fleet rollout abort`,
  );
}

/**
 * Has the database say from now on what runtimes are made of, in `ctx.db`'s transaction, which nobody else who decides about that
 * enters meanwhile. The first time, all who run keep what the environment has made them of.
 * @returns the release that new tenants get.
 * @throws ConflictError when there are runtimes of which nobody knows what they were made of.
 */
export async function takeSettingsOver(ctx: FleetContext): Promise<Release> {
  const { db, clock } = ctx;
  const { currentReleaseId, environmentReleaseId } = await store.lockSettings(db);
  if (currentReleaseId !== null) return getRelease(db, currentReleaseId);
  if (environmentReleaseId === null && (await hasRuntimes(db))) {
    throw new ConflictError(
      "environment_unknown",
      "Nobody knows yet what the runtimes were made of: start a daemon of this version once, so that it says so.",
    );
  }
  const at = clock.now();
  const release =
    environmentReleaseId === null
      ? await store.putRelease(db, ctx.environment, { at, by: "environment" })
      : await getRelease(db, environmentReleaseId);
  await store.setCurrent(db, release.id, at);
  await pinAll(db, release.id, at);
  return release;
}

/** @throws NotFoundError */
export async function getRelease(db: Db, id: ReleaseId): Promise<Release> {
  const release = await store.findRelease(db, id);
  if (release !== undefined) return release;
  throw new NotFoundError("release_not_found", `There is no release ${id}. See: openclaw fleet settings show`);
}

/**
 * The release that `change` makes of `base`, found or made, in `ctx.db`'s transaction.
 * @throws ConflictError when it is known to fail, unless forced: then that is forgotten.
 */
export async function makeRelease(
  ctx: FleetContext,
  base: ReleaseContent,
  change: ReleaseChange,
  { force }: { force: boolean },
): Promise<Release> {
  const content = changeContent(base, change);
  if (!force) await refuseFailed(ctx.db, base, content);
  const release = await store.putRelease(ctx.db, content, { at: ctx.clock.now(), by: ctx.actor.name });
  if (release.failedAt === null) return release;
  await store.forgetFailure(ctx.db, release.id);
  return { ...release, failedAt: null, failedReason: null };
}

/**
 * An image that failed is refused with whatever models, unless it is the one in force: then the models were at fault.
 * @throws ConflictError
 */
export async function refuseFailed(db: Db, base: ReleaseContent, content: ReleaseContent): Promise<void> {
  const same = await store.findReleaseLike(db, content);
  const failed = same ?? (content.image === base.image ? undefined : await store.findFailureOf(db, content.image));
  if (failed === undefined || failed.failedAt === null) return;
  const what = same === undefined ? `The image ${content.image}` : `Release ${failed.id}`;
  throw new ConflictError("release_failed", `${what} ${describeFailure(failed)} Try it again with --force.`);
}

/** For people: `failed on 2026-11-24: 3 of its tenants failed, the limit is 3 (rollout 7).` */
export function describeFailure({ failedAt, failedReason }: Release): string {
  return `failed on ${failedAt?.toISOString().slice(0, 10)}: ${failedReason}.`;
}
