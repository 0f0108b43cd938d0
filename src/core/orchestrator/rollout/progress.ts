import { sql } from "kysely";
import type { Db } from "../../platform/db.ts";
import { NotFoundError } from "../../platform/errors.ts";
import type { ReleaseId, RolloutId, TenantId } from "../../platform/ids.ts";
import { listSlugs } from "../../tenants/tenants.ts";
import { getRelease } from "./settings.ts";
import type { RolloutStatus, RolloutTenantState } from "./judge.ts";
import type { Release } from "./release.ts";
import * as store from "./rollout-store.ts";

export type RolloutCounts = Record<RolloutTenantState, number>;

/** What people and scripts see of a rollout. */
export type RolloutProgress = {
  id: RolloutId;
  kind: "rollout" | "rollback";
  status: RolloutStatus;
  reason: string | null;
  release: Release;
  /** Whom it is about; empty: the whole fleet. */
  selector: store.RolloutSelector;
  startedAt: Date;
  startedBy: string;
  endedAt: Date | null;
  parallel: number;
  maxFailures: number;
  deadlineSeconds: number;
  tenants: number;
  /** Tenants that failed, whatever became of them. */
  failures: number;
  counts: RolloutCounts;
  /** Tenants that it moved, and that are to go back once it is their turn. */
  toGoBack: number;
  cohorts: { size: string; tenants: number; counts: RolloutCounts }[];
  /** Those on their way. */
  underWay: { tenant: string; state: "moving" | "rolling-back"; since: Date; trouble: string | null }[];
  /** Those that failed, or could not be moved. */
  problems: { tenant: string; state: RolloutTenantState; at: Date | null; reason: string | null }[];
  /** Tenants a minute that got there, of late. */
  perMinute: number;
  /** All who run or sleep and are to have another release: not there yet, gone back, left out, or provisioned since it began. */
  elsewhere: number;
};

const LATELY_MS = 5 * 60_000;
const MINUTE_MS = 60_000;

/** Whether nothing of it is left to be done, unless somebody decides something. */
export function isSettled({ status, counts, toGoBack }: RolloutProgress): boolean {
  if (status === "running" || toGoBack > 0) return false;
  return counts.moving === 0 && counts["rolling-back"] === 0;
}

/** Of the rollout with the id, or of the latest. @throws NotFoundError when there is none. */
export async function readProgress(db: Db, id: RolloutId | undefined, now: Date): Promise<RolloutProgress> {
  const rollout = await store.findRollout(db, id);
  if (rollout === undefined) {
    const message =
      id === undefined
        ? "There was no rollout yet. Begin one with: openclaw fleet rollout start"
        : `There is no rollout ${id}. See the latest with: openclaw fleet rollout status`;
    throw new NotFoundError("rollout_not_found", message);
  }
  const members = await listMembers(db, rollout.id);
  const slugs = await listSlugs(
    db,
    members.map(({ tenantId }) => tenantId),
  );
  const nameOf = ({ tenantId }: Member) => slugs.get(tenantId) ?? tenantId;
  const { kind, status, statusReason, startedAt, startedBy, endedAt, parallel, maxFailures, deadlineSeconds } = rollout;
  return {
    id: rollout.id,
    kind,
    status,
    reason: statusReason,
    release: await getRelease(db, rollout.releaseId),
    selector: rollout.selector,
    startedAt,
    startedBy,
    endedAt,
    parallel,
    maxFailures,
    deadlineSeconds,
    tenants: members.length,
    failures: members.filter(({ failedAt }) => failedAt !== null).length,
    counts: countStates(members),
    toGoBack: members.filter(({ isToGoBack }) => isToGoBack).length,
    cohorts: rollout.cohorts.map((size, index) => {
      const cohort = members.filter((member) => member.cohort === index + 1);
      return { size, tenants: cohort.length, counts: countStates(cohort) };
    }),
    underWay: members.flatMap((member) => {
      const { state, since, trouble } = member;
      return state === "moving" || state === "rolling-back"
        ? [{ tenant: nameOf(member), state, since: since ?? startedAt, trouble }]
        : [];
    }),
    problems: members
      .filter(({ failedAt, state }) => failedAt !== null || state === "skipped" || state === "failed")
      .map((member) => ({
        tenant: nameOf(member),
        state: member.state,
        at: member.failedAt ?? member.endedAt,
        reason: member.reason,
      })),
    perMinute: speedOf(members, startedAt, endedAt ?? now),
    elsewhere: await countElsewhere(db, rollout.releaseId),
  };
}

type Member = {
  tenantId: TenantId;
  cohort: number;
  state: RolloutTenantState;
  endedAt: Date | null;
  failedAt: Date | null;
  reason: string | null;
  since: Date | null;
  trouble: string | null;
  isToGoBack: boolean;
};

async function listMembers(db: Db, id: RolloutId): Promise<Member[]> {
  const { rows } = await sql<Member>`
    SELECT moved.tenant_id AS "tenantId", moved.cohort, moved.state, moved.ended_at AS "endedAt",
           moved.failed_at AS "failedAt", moved.reason, target.state_at AS since, runtimes.reason AS trouble,
           coalesce(
             takes_back AND moved.state IN ('moving', 'healthy', 'moved-asleep') AND moved.back_to_release_id IS NOT NULL
               AND target.release_id = rollouts.release_id AND tenants.status IN ('active', 'suspended'),
             false) AS "isToGoBack"
      FROM rollout_tenants AS moved
      JOIN rollouts ON rollouts.id = moved.rollout_id
      LEFT JOIN tenants ON tenants.id = moved.tenant_id
      LEFT JOIN runtime_targets AS target ON target.tenant_id = moved.tenant_id
      LEFT JOIN runtimes ON runtimes.tenant_id = moved.tenant_id
     WHERE moved.rollout_id = ${id}
     ORDER BY moved.position`.execute(db);
  return rows;
}

function countStates(members: readonly Member[]): RolloutCounts {
  const counts: RolloutCounts = {
    pending: 0,
    moving: 0,
    healthy: 0,
    "moved-asleep": 0,
    "rolling-back": 0,
    "rolled-back": 0,
    failed: 0,
    skipped: 0,
  };
  for (const { state } of members) counts[state] += 1;
  return counts;
}

/** Over the last minutes, or since it began when that is shorter. */
function speedOf(members: readonly Member[], startedAt: Date, until: Date): number {
  const lastedMs = until.getTime() - startedAt.getTime();
  const windowMs = Math.min(LATELY_MS, lastedMs);
  if (windowMs <= 0) return 0;
  const since = until.getTime() - windowMs;
  const arrived = members.filter(
    ({ endedAt, state }) => endedAt !== null && endedAt.getTime() >= since && state !== "skipped",
  ).length;
  return Math.round((arrived * MINUTE_MS * 10) / windowMs) / 10;
}

async function countElsewhere(db: Db, releaseId: ReleaseId): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    SELECT count(*) AS count FROM tenants LEFT JOIN runtime_targets AS target ON target.tenant_id = tenants.id
     WHERE status IN ('active', 'suspended') AND target.release_id IS DISTINCT FROM ${releaseId}`.execute(db);
  return rows[0]?.count ?? 0;
}
