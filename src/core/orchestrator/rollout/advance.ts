import { writeAudit, writeAuditEntries } from "../../platform/audit.ts";
import type { Db } from "../../platform/db.ts";
import { assertNever } from "../../platform/errors.ts";
import type { RolloutId } from "../../platform/ids.ts";
import { enqueueJob } from "../../platform/jobs.ts";
import type { Log } from "../../platform/log.ts";
import { enqueueConvergeAll, lockTenants, type TenantsContext } from "../../tenants/tenants.ts";
import type { RolloutStep } from "./judge.ts";
import { planRollout } from "./plan.ts";
import * as releases from "./release-store.ts";
import * as store from "./rollout-store.ts";

export type RolloutContext = TenantsContext & { log: Log };

const LOOK_AGAIN_MS = 1_000;
/** Whoever has not looked for so long was not there: neither were those who look after runtimes. */
const INTERRUPTION_MS = 30_000;

/** Has the rollout taken on; at most one job waits for each. */
export async function enqueueAdvance(db: Db, rolloutId: RolloutId, delayMs = 0): Promise<void> {
  await enqueueJob(db, "rollout.advance", { rolloutId }, { queue: "rollouts", key: `rollout:${rolloutId}`, delayMs });
}

/**
 * Takes a rollout as far as it can go at the moment: all of what is decided is written in one transaction, which asks for the next
 * look as well, so that one that is cut off has done nothing, and one that is repeated does nothing twice.
 */
export async function advanceRollout(ctx: RolloutContext, rolloutId: RolloutId): Promise<void> {
  await ctx.db.transaction().execute(async (tx) => {
    const rollout = await store.lockRollout(tx, rolloutId);
    if (rollout === undefined) return;
    const tenants = await store.readRolloutTenants(tx, rolloutId);
    const now = ctx.clock.now();
    const isInterrupted = now.getTime() - rollout.lookedAt.getTime() > INTERRUPTION_MS;
    const attendedSince = isInterrupted ? now : rollout.attendedSince;
    await store.setRollout(tx, rolloutId, { lookedAt: now, attendedSince });
    const { steps, isOpen } = planRollout({ ...rollout, attendedSince }, tenants, now);
    await carryOut({ ...ctx, db: tx }, rollout, steps);
    if (isOpen) await enqueueAdvance(tx, rolloutId, LOOK_AGAIN_MS);
  });
}

/** Sees to it that no rollout is left lying, and that sleepers are looked at when they wake. @returns how many are looked at. */
export async function sweepRollouts({ db }: Pick<RolloutContext, "db">): Promise<number> {
  const unfinished = await store.listUnfinished(db);
  for (const rolloutId of unfinished) await enqueueAdvance(db, rolloutId);
  return unfinished.length;
}

type StepOf<Kind extends RolloutStep["kind"]> = Extract<RolloutStep, { kind: Kind }>;

/** In this order: who has settled may be taken back by the same plan. */
async function carryOut(ctx: RolloutContext, rollout: store.Rollout, steps: readonly RolloutStep[]): Promise<void> {
  const ofKind = <Kind extends RolloutStep["kind"]>(kind: Kind) =>
    steps.filter((step): step is StepOf<Kind> => step.kind === kind);
  const move = { rolloutId: rollout.id, releaseId: rollout.releaseId, at: ctx.clock.now() };
  const settled = ofKind("settle");
  if (settled.length > 0) await store.settleTenants(ctx.db, move, settled);
  const givenUp = ofKind("give-up");
  if (givenUp.length > 0) await store.giveTenantsUp(ctx.db, move, givenUp);
  const taken = ofKind("take-back");
  if (taken.length > 0) await takeBack(ctx, move, taken);
  const started = ofKind("start");
  if (started.length > 0) await start(ctx, move, started);
  for (const step of steps) await carryOutForAll(ctx, rollout, step);
}

type Move = Parameters<typeof store.startTenants>[1];

async function start(ctx: RolloutContext, move: Move, steps: readonly StepOf<"start">[]): Promise<void> {
  const asked = steps.map(({ tenantId }) => tenantId);
  // Locked, nobody leaves meanwhile; who just left is looked at the next time.
  const staying = (await lockTenants(ctx.db, asked)).filter(
    ({ status }) => status === "active" || status === "suspended",
  );
  const started = await store.startTenants(
    ctx.db,
    move,
    staying.map(({ id }) => id),
  );
  await writeAuditEntries(
    ctx.db,
    started.map(({ tenantId, fromReleaseId }) => ({
      at: move.at,
      actor: ctx.actor,
      action: "tenant.moved",
      tenantId,
      detail: { rollout: move.rolloutId, from: fromReleaseId, to: move.releaseId },
    })),
  );
  const tenantIds = started.map(({ tenantId }) => tenantId);
  await enqueueConvergeAll(ctx.db, tenantIds, { urgency: "rollout" });
}

async function takeBack(ctx: RolloutContext, move: Move, steps: readonly StepOf<"take-back">[]): Promise<void> {
  await store.takeBackTenants(ctx.db, move, steps);
  await writeAuditEntries(
    ctx.db,
    steps.map(({ tenantId, to, reason }) => ({
      at: move.at,
      actor: ctx.actor,
      action: "tenant.rolled-back",
      tenantId,
      reason,
      detail: { rollout: move.rolloutId, from: move.releaseId, to },
    })),
  );
  const failed = steps.filter(({ isFailure }) => isFailure).map(({ tenantId }) => tenantId);
  const others = steps.filter(({ isFailure }) => !isFailure).map(({ tenantId }) => tenantId);
  // Whoever failed has no assistant until then.
  await enqueueConvergeAll(ctx.db, failed);
  await enqueueConvergeAll(ctx.db, others, { urgency: "rollout" });
}

async function carryOutForAll(ctx: RolloutContext, rollout: store.Rollout, step: RolloutStep): Promise<void> {
  const { id, releaseId, isWhole } = rollout;
  const at = ctx.clock.now();
  switch (step.kind) {
    case "halt":
      await store.setRollout(ctx.db, id, { status: "halted", statusReason: step.reason });
      await releases.markFailed(ctx.db, releaseId, at, `${step.reason} (rollout ${id})`);
      ctx.log.error({ rollout: id, release: releaseId, reason: step.reason }, "the rollout is halted");
      return auditRollout(ctx, rollout, { verb: "halted", reason: step.reason });
    case "fail-release":
      await releases.markFailed(ctx.db, releaseId, at, `${step.reason} (rollout ${id})`);
      ctx.log.error({ rollout: id, release: releaseId, reason: step.reason }, "the release fails after its rollout");
      return auditRollout(ctx, rollout, { verb: "release-failed", reason: step.reason });
    case "finish":
      await store.setRollout(ctx.db, id, { status: "finished", statusReason: null, endedAt: at });
      if (isWhole) await releases.setCurrent(ctx.db, releaseId, at);
      return auditRollout(ctx, rollout, { verb: "finished" });
    case "start":
    case "settle":
    case "take-back":
    case "give-up":
      return;
    default:
      return assertNever(step);
  }
}

/** One line about the rollout itself. */
export async function auditRollout(
  ctx: TenantsContext,
  { id, kind, releaseId }: Pick<store.Rollout, "id" | "kind" | "releaseId">,
  { verb, reason, detail = {} }: { verb: string; reason?: string | undefined; detail?: Record<string, unknown> },
): Promise<void> {
  await writeAudit(ctx.db, {
    at: ctx.clock.now(),
    actor: ctx.actor,
    action: `rollout.${verb}`,
    reason,
    detail: { rollout: id, kind, release: releaseId, ...detail },
  });
}
