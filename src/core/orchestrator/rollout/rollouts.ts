import { ConflictError } from "../../platform/errors.ts";
import type { Db } from "../../platform/db.ts";
import type { ReleaseId, RolloutId } from "../../platform/ids.ts";
import { listTenants, type Tenant, type TenantsContext } from "../../tenants/tenants.ts";
import { auditRollout, enqueueAdvance } from "./advance.ts";
import { cohortEnds, type CohortSize } from "./cohorts.ts";
import {
  describeFailure,
  type FleetContext,
  getRelease,
  makeRelease,
  readSettingsInForce,
  refuseDuringRollout,
  refuseFailed,
  takeSettingsOver,
} from "./settings.ts";
import { changeContent, checkImage, type Release, type ReleaseChange, type ReleaseContent } from "./release.ts";
import * as releases from "./release-store.ts";
import * as store from "./rollout-store.ts";

/** How a rollout goes about it. */
export type RolloutPace = {
  cohorts: readonly CohortSize[];
  /** How many tenants may be on the way at once. */
  parallel: number;
  /** How many failures end it. */
  maxFailures: number;
  /** How long a tenant may take to become healthy. */
  deadlineSeconds: number;
};

export type RolloutWish = RolloutPace & { change: ReleaseChange; selector: store.RolloutSelector; force: boolean };
export type RollbackWish = RolloutPace & { to: ReleaseId | undefined; reason: string };

export type RolloutPreview = {
  from: ReleaseContent;
  to: ReleaseContent;
  /** Undefined: it is to be made. */
  releaseId: ReleaseId | undefined;
  cohorts: { size: CohortSize; tenants: string[] }[];
};

/**
 * Begins to give tenants the release that `change` makes of the current one; a job does the rest.
 * @throws UsageError for an image that is not named for good, ConflictError for one that failed unless forced, and while another
 * rollout is not over.
 */
export async function startRollout(ctx: FleetContext, wish: RolloutWish): Promise<RolloutId> {
  if (wish.change.image !== undefined) checkImage(wish.change.image);
  return ctx.db.transaction().execute(async (tx) => {
    const inside = { ...ctx, db: tx };
    const current = await takeSettingsOver(inside);
    await refuseDuringRollout(tx);
    const release = await makeRelease(inside, current, wish.change, wish);
    return open(inside, { ...wish, kind: "rollout", release, current });
  });
}

/** What `startRollout` would do. Nothing is changed. @throws likewise. */
export async function previewRollout(ctx: FleetContext, wish: RolloutWish): Promise<RolloutPreview> {
  if (wish.change.image !== undefined) checkImage(wish.change.image);
  await refuseDuringRollout(ctx.db);
  const { inForce, release: current } = await readSettingsInForce(ctx);
  const content = changeContent(inForce, wish.change);
  if (!wish.force) await refuseFailed(ctx.db, inForce, content);
  const release = await releases.findReleaseLike(ctx.db, content);
  return preview(ctx.db, { ...wish, from: inForce, to: content, releaseId: release?.id, currentId: current?.id });
}

/**
 * Begins to give everybody back the release that was current before, or another earlier one; new tenants get it at once. The
 * release that is left is remembered as one that failed.
 * @throws ConflictError when there is none, or while a rollout is not over.
 */
export async function startRollback(ctx: FleetContext, wish: RollbackWish): Promise<RolloutId> {
  return ctx.db.transaction().execute(async (tx) => {
    const inside = { ...ctx, db: tx };
    const current = await takeSettingsOver(inside);
    await refuseDuringRollout(tx);
    const release = await findWayBack(tx, current, wish.to);
    const at = ctx.clock.now();
    await releases.markFailed(tx, current.id, at, `${ctx.actor.name} went back from it: ${wish.reason}`);
    await releases.setCurrent(tx, release.id, at);
    return open(inside, { ...wish, kind: "rollback", release, current, selector: {} });
  });
}

/** What `startRollback` would do. Nothing is changed. @throws likewise. */
export async function previewRollback(ctx: FleetContext, wish: RollbackWish): Promise<RolloutPreview> {
  await refuseDuringRollout(ctx.db);
  const { release: current } = await readSettingsInForce(ctx);
  const to = await findWayBack(ctx.db, current, wish.to);
  const from = current ?? ctx.environment;
  return preview(ctx.db, { ...wish, selector: {}, from, to, releaseId: to.id, currentId: current?.id });
}

async function findWayBack(db: Db, current: Release | undefined, to: ReleaseId | undefined): Promise<Release> {
  const release =
    to !== undefined
      ? await getRelease(db, to)
      : current === undefined
        ? undefined
        : await releases.findPrevious(db, current.id);
  if (release === undefined) {
    throw new ConflictError(
      "nothing_to_go_back_to",
      "No earlier release is known to be good. See: openclaw fleet settings show",
    );
  }
  if (release.failedAt !== null)
    throw new ConflictError("release_failed", `Release ${release.id} ${describeFailure(release)} Name another one.`);
  if (release.id !== current?.id) return release;
  throw new ConflictError(
    "already_current",
    `Release ${release.id} is the current one; give it to whoever has another with: openclaw fleet rollout start`,
  );
}

async function open(
  ctx: FleetContext,
  wish: RolloutPace & {
    kind: store.Rollout["kind"];
    release: Release;
    current: Release;
    selector: store.RolloutSelector;
    reason?: string;
  },
): Promise<RolloutId> {
  const { kind, release, current, selector, parallel, maxFailures, deadlineSeconds } = wish;
  const tenants = await listMovable(ctx.db, selector, { releaseId: release.id, currentId: current.id });
  const cohorts = cohortEnds(wish.cohorts, tenants.length);
  const now = ctx.clock.now();
  const id = await store.insertRollout(
    ctx.db,
    {
      kind,
      releaseId: release.id,
      status: "running",
      isWhole: Object.keys(selector).length === 0,
      cohorts: cohorts.map(({ size }) => size),
      parallel,
      maxFailures,
      deadlineSeconds,
      selector: JSON.stringify(selector),
      startedAt: now,
      lookedAt: now,
      attendedSince: now,
      startedBy: ctx.actor.name,
    },
    tenants.map(({ id: tenantId }, index) => ({ tenantId, cohort: cohortOf(cohorts, index) })),
  );
  const detail = { from: current.id, image: release.image, tenants: tenants.length };
  await auditRollout(ctx, { id, kind, releaseId: release.id }, { verb: "started", reason: wish.reason, detail });
  await enqueueAdvance(ctx.db, id);
  return id;
}

function cohortOf(cohorts: readonly { end: number }[], index: number): number {
  return cohorts.findIndex(({ end }) => index < end) + 1;
}

async function preview(
  db: Db,
  wish: Pick<RolloutPreview, "from" | "to" | "releaseId"> & {
    selector: store.RolloutSelector;
    cohorts: readonly CohortSize[];
    currentId: ReleaseId | undefined;
  },
): Promise<RolloutPreview> {
  const { from, to, releaseId } = wish;
  const tenants = (await listMovable(db, wish.selector, wish)).map(({ slug }) => slug);
  const ends = cohortEnds(wish.cohorts, tenants.length);
  const cohorts = ends.map(({ size, end }, index) => ({
    size,
    tenants: tenants.slice(ends[index - 1]?.end ?? 0, end),
  }));
  return { from, to, releaseId, cohorts };
}

/**
 * Those who are not on the release yet, by slug; those whose runtimes run come first: only they show at once whether it is any good.
 */
async function listMovable(
  db: Db,
  selector: store.RolloutSelector,
  { releaseId, currentId }: { releaseId: ReleaseId | undefined; currentId: ReleaseId | undefined },
): Promise<Tenant[]> {
  const tenants = await listTenants(db, { ...selector, status: selector.status ?? ["active", "suspended"] });
  const ids = tenants.map(({ id }) => id);
  const standings = new Map((await store.readStandings(db, ids)).map((standing) => [standing.tenantId, standing]));
  const movable = tenants.filter(({ id }) => {
    const standing = standings.get(id);
    const has = standing?.releaseId ?? currentId;
    const isThere = standing?.state !== "set" && standing?.state !== "waking";
    return has !== releaseId || releaseId === undefined || !isThere;
  });
  const isRunning = ({ id }: Tenant) => standings.get(id)?.isRunning === true;
  return [...movable.filter(isRunning), ...movable.filter((tenant) => !isRunning(tenant))];
}

/** Begins nothing more; who is on the way gets there or back. @throws ConflictError unless one is running. */
export async function pauseRollout(ctx: TenantsContext, reason: string): Promise<RolloutId> {
  return changeOpen(ctx, async (inside, rollout) => {
    if (rollout.status !== "running") throw refused(rollout, "only a running one can be paused");
    await store.setRollout(inside.db, rollout.id, { status: "paused", statusReason: reason });
    await auditRollout(inside, rollout, { verb: "paused", reason });
  });
}

/**
 * Goes on with one that was paused or halted; that its release failed is forgotten.
 * @throws ConflictError unless there is one, and when more have failed already than may.
 */
export async function resumeRollout(
  ctx: TenantsContext,
  pace: Partial<Pick<RolloutPace, "maxFailures" | "parallel">>,
  reason: string,
): Promise<RolloutId> {
  return changeOpen(ctx, async (inside, rollout) => {
    if (rollout.status === "running") throw refused(rollout, "there is nothing to resume");
    const failures = (await store.readRolloutTenants(inside.db, rollout.id)).filter(
      ({ hasFailed }) => hasFailed,
    ).length;
    const maxFailures = pace.maxFailures ?? rollout.maxFailures;
    if (failures >= maxFailures)
      throw refused(rollout, `${failures} have failed; go on with --max-failures ${failures + 3}, or abort it`);
    await store.setRollout(inside.db, rollout.id, { status: "running", statusReason: null, ...pace });
    await releases.forgetFailure(inside.db, rollout.releaseId);
    await auditRollout(inside, rollout, { verb: "resumed", reason, detail: pace });
  });
}

/** Ends it where it stands; with `takesBack`, everybody whom it moved goes back. @throws ConflictError unless one is not over. */
export async function abortRollout(
  ctx: TenantsContext,
  { takesBack, reason }: { takesBack: boolean; reason: string },
): Promise<RolloutId> {
  return changeOpen(ctx, async (inside, rollout) => {
    const endedAt = ctx.clock.now();
    await store.setRollout(inside.db, rollout.id, { status: "aborted", statusReason: reason, takesBack, endedAt });
    await auditRollout(inside, rollout, { verb: "aborted", reason, detail: { takesBack } });
  });
}

async function changeOpen(
  ctx: TenantsContext,
  change: (inside: TenantsContext, rollout: store.Rollout) => Promise<void>,
): Promise<RolloutId> {
  return ctx.db.transaction().execute(async (tx) => {
    const rollout = await store.lockOpenRollout(tx);
    if (rollout === undefined) {
      throw new ConflictError("no_rollout", "No rollout is under way. Begin one with: openclaw fleet rollout start");
    }
    await change({ ...ctx, db: tx }, rollout);
    await enqueueAdvance(tx, rollout.id);
    return rollout.id;
  });
}

function refused({ id, status }: store.Rollout, why: string): ConflictError {
  return new ConflictError("rollout_state", `Rollout ${id} is ${status}: ${why}.`);
}
