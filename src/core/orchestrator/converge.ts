import type { DriverCall, ObservedRuntime, RuntimeDriver, RuntimeSpec } from "../adapters/runtime/runtime-driver.ts";
import type { Vault } from "../adapters/vault/vault.ts";
import { addMs } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { assertNever, DeferredError, errorMessage, UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import {
  changeStatus,
  enqueueConverge,
  findTenantById,
  lockTenant,
  type Tenant,
  type TenantsContext,
} from "../tenants/tenants.ts";
import { type ActivityReader, QUIET_MS, REST_MS, wakeTenant } from "./hibernation.ts";
import { ensureTenantKeys, removeTenantKeys } from "./keys.ts";
import { BOOT_MS, goalOf, isExpectedBack, isInForce } from "./plan.ts";
import { endKeys } from "./rotate-keys.ts";
import { stopIfSecretDiffers } from "./secret-drift.ts";
import { forgetTarget, keepTarget, noteTarget, readTarget, type Target } from "./rollout/targets.ts";
import { computeSpec, type FleetSettings } from "./spec.ts";
import * as store from "./store.ts";
import { urgencyOf } from "./urgency.ts";

export type OrchestratorContext = TenantsContext & {
  log: Log;
  vault: Vault;
  runtimes: RuntimeDriver;
  /** As the environment says: of image and models, what counts while no release was made. */
  fleet: FleetSettings;
  retentionDays: number;
  lastActivity: ActivityReader;
};

const MAX_ATTEMPTS = 10;
const READY_POLL_MS = 250;
const LONGEST_POLL_MS = 5_000;
/** For what has not come up in the time of a boot. */
const SICK_POLL_MS = 60_000;
const MAX_BACKOFF_MS = 60_000;

/**
 * Makes the runtime of one tenant what the tenant's status says. Every step is idempotent and none is remembered as done
 * without being read back, so that a run cut off anywhere is continued by simply running again. Jobs of one tenant run
 * one at a time.
 */
export async function convergeTenant(ctx: OrchestratorContext, tenantId: TenantId, signal: AbortSignal): Promise<void> {
  const tenant = await findTenantById(ctx.db, tenantId);
  if (tenant === undefined) return;
  try {
    await convergeTo(ctx, tenant, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    if (error instanceof DeferredError) return lookAgain(ctx, tenant, error);
    await retryAfterFailure(ctx, tenant, error);
  }
}

async function convergeTo(ctx: OrchestratorContext, tenant: Tenant, signal: AbortSignal): Promise<void> {
  const goal = goalOf(tenant);
  switch (goal) {
    case "awake":
      return bringUp(ctx, tenant, signal);
    case "asleep":
      return hibernate(ctx, tenant, signal);
    case "stopped":
      return stop(ctx, tenant, signal);
    case "removed":
      return tearDown(ctx, tenant, signal);
    case "left":
      return;
    default:
      return assertNever(goal);
  }
}

async function bringUp(ctx: OrchestratorContext, tenant: Tenant, signal: AbortSignal): Promise<void> {
  const known = await store.findRuntime(ctx.db, tenant.id);
  if (tenant.provisioningDeadline !== null && tenant.provisioningDeadline <= ctx.clock.now())
    return giveUp(ctx, tenant, `not healthy before the deadline: ${known?.reason ?? "it was still starting"}`);
  const target = await readTarget(ctx.db, tenant.id, ctx.fleet);
  await beginWith(ctx, tenant, target);
  const spec = computeSpec(tenant, target.settings);
  const lastSeen = stateOf(known, ctx.clock.now());
  const call = { signal, urgency: urgencyOf(tenant, { lastSeen, isMoving: target.isMoving }) };
  if (known === undefined) await recordObservation(ctx, spec, tenant, starting(spec));
  await stopIfSecretDiffers(ctx, known, call);
  const ensured = await ensureRuntime(ctx, tenant, spec, call);
  const observed = ensured.state === "asleep" ? await ctx.runtimes.wake(tenant.id, call) : ensured;
  if (observed.state === "failed") {
    throw new UpstreamError("runtime_failed", `the runtime failed: ${observed.reason ?? "no reason given"}`, {
      service: "runtime",
      retryable: true,
    });
  }
  await recordObservation(ctx, spec, tenant, observed);
  if (observed.state === "running" && isInForce(spec, observed)) {
    if (target.state !== "good") await noteTarget(ctx.db, tenant.id, target, { state: "good", at: ctx.clock.now() });
    return becomeActive(ctx, tenant);
  }
  // Not ready yet, or not replaced yet, is no failure: look again soon, without burning an attempt.
  await enqueueConverge(ctx.db, tenant.id, { delayMs: pollMs(known, ctx.clock.now()), urgency: call.urgency });
}

/** A newcomer keeps the release that it begins with, and one that took a release over asleep is to show that it runs. */
async function beginWith(ctx: OrchestratorContext, tenant: Tenant, target: Target): Promise<void> {
  const at = ctx.clock.now();
  if (target.state === undefined) await keepTarget(ctx.db, tenant.id, target, at);
  if (target.state === "asleep") await noteTarget(ctx.db, tenant.id, target, { state: "waking", at });
}

/** Often at first, then seldom: neither what takes minutes to boot nor what never does must keep others waiting. */
function pollMs(known: store.RuntimeRow | undefined, now: Date): number {
  const startingMs = known?.state === "starting" ? now.getTime() - known.stateSince.getTime() : 0;
  if (startingMs > BOOT_MS) return SICK_POLL_MS;
  return Math.min(LONGEST_POLL_MS, Math.max(READY_POLL_MS, startingMs / 10));
}

/** What has been starting for longer than a boot takes is sick, and does not go before those who are woken. */
function stateOf(known: store.RuntimeRow | undefined, now: Date): store.RuntimeRow["state"] | undefined {
  const isSick = known?.state === "starting" && addMs(known.stateSince, BOOT_MS) < now;
  return isSick ? "failed" : known?.state;
}

/** The runtime with its keys. A configuration that is not as it should be is never applied: what is in force goes on. */
async function ensureRuntime(
  ctx: OrchestratorContext,
  tenant: Tenant,
  spec: RuntimeSpec,
  call: DriverCall,
): Promise<ObservedRuntime> {
  const { checkSpec } = await import("./runtime-config.ts");
  checkSpec(spec);
  // One that runs holds the keys that were there when it started.
  const stopFirst = async () => void (await ctx.runtimes.sleep(tenant.id, call));
  await ensureTenantKeys(ctx, tenant.id, tenant.keyGeneration, stopFirst);
  // Whoever is linked again before it is seen what came into force must not be sent to a runtime that names another.
  await store.forgetAllowedUser(ctx.db, tenant.id, tenant.telegramUserId);
  return ctx.runtimes.ensure(spec, call);
}

async function becomeActive(ctx: OrchestratorContext, tenant: Tenant): Promise<void> {
  await ctx.db.transaction().execute(async (tx) => {
    const current = await lockTenant(tx, tenant.id);
    // Suspended or removed meanwhile: the job of that change has the last word.
    if (current.status !== "provisioning") return;
    await changeStatus({ ...ctx, db: tx }, tenant.id, { to: "active", reason: "the runtime is healthy" });
  });
}

async function giveUp(ctx: OrchestratorContext, tenant: Tenant, reason: string): Promise<void> {
  await ctx.db.transaction().execute(async (tx) => {
    const current = await lockTenant(tx, tenant.id);
    if (current.status !== "provisioning") return;
    await changeStatus({ ...ctx, db: tx }, tenant.id, { to: "pending", reason });
    await forgetTarget(tx, tenant.id);
  });
}

/** Stops the runtime unless something reached it, or it did something, since it was decided: then it stays up. */
async function hibernate(ctx: OrchestratorContext, tenant: Tenant, signal: AbortSignal): Promise<void> {
  const since = tenant.hibernatedAt ?? ctx.clock.now();
  const quietMs = ctx.clock.now().getTime() - since.getTime();
  if (quietMs < QUIET_MS) return enqueueConverge(ctx.db, tenant.id, { delayMs: QUIET_MS - quietMs });
  const last = (await ctx.lastActivity(ctx.db, [tenant.id])).get(tenant.id);
  if (last !== undefined && last >= since) return wakeTenant(ctx, tenant.id);
  const restMs = last === undefined ? 0 : last.getTime() + REST_MS - ctx.clock.now().getTime();
  if (restMs > 0) return enqueueConverge(ctx.db, tenant.id, { delayMs: restMs });
  await keepCurrent(ctx, tenant, await putToSleep(ctx, tenant, signal), signal);
}

/** Stops a runtime that may not run; one that is expected back is kept current meanwhile. */
async function stop(ctx: OrchestratorContext, tenant: Tenant, signal: AbortSignal): Promise<void> {
  const observed = await putToSleep(ctx, tenant, signal);
  if (!isExpectedBack(tenant)) return store.forgetFailures(ctx.db, tenant.id);
  if (observed?.state === "asleep") return keepCurrent(ctx, tenant, observed, signal);
  // One that is gone takes its release over when it is made anew.
  await noteTakenOver(ctx, tenant, await readTarget(ctx.db, tenant.id, ctx.fleet));
}

/** Makes a runtime that sleeps what it should be when it wakes (F39, F40). */
async function keepCurrent(
  ctx: OrchestratorContext,
  tenant: Tenant,
  observed: ObservedRuntime | undefined,
  signal: AbortSignal,
): Promise<void> {
  const target = await readTarget(ctx.db, tenant.id, ctx.fleet);
  const spec = computeSpec(tenant, target.settings);
  const known = await store.findRuntime(ctx.db, tenant.id);
  // On record as well: it may have been cut off in between.
  const isCurrent = known?.specHash === spec.hash && isInForce(spec, observed);
  if (!isCurrent || observed?.drift.length !== 0) {
    const call = { signal, urgency: urgencyOf(tenant, { lastSeen: known?.state, isMoving: target.isMoving }) };
    const ensured = await ensureRuntime(ctx, tenant, spec, call);
    // One that had gone was made awake.
    const asleep = ensured.state === "asleep" ? ensured : await ctx.runtimes.sleep(tenant.id, call);
    await recordObservation(ctx, spec, tenant, asleep);
    // Not replaced yet is no failure: look again soon.
    if (!isInForce(spec, asleep)) return enqueueConverge(ctx.db, tenant.id, { delayMs: READY_POLL_MS });
  } else await store.forgetFailures(ctx.db, tenant.id);
  await noteTakenOver(ctx, tenant, target);
}

async function noteTakenOver(ctx: OrchestratorContext, tenant: Tenant, target: Target): Promise<void> {
  if (target.state === "set" || target.state === "waking")
    await noteTarget(ctx.db, tenant.id, target, { state: "asleep", at: ctx.clock.now() });
}

async function putToSleep(
  ctx: OrchestratorContext,
  tenant: Tenant,
  signal: AbortSignal,
): Promise<ObservedRuntime | undefined> {
  const known = await store.findRuntime(ctx.db, tenant.id);
  if (known === undefined) return undefined;
  const { isMoving } = await readTarget(ctx.db, tenant.id, ctx.fleet);
  const urgency = urgencyOf(tenant, { lastSeen: known.state, isMoving });
  const observed = await ctx.runtimes.sleep(tenant.id, { signal, urgency });
  await store.putRuntime(ctx.db, {
    ...known,
    state: observed.state,
    address: observed.address ?? null,
    reason: observed.reason ?? null,
    observedAt: ctx.clock.now(),
  });
  if (tenant.hibernatedAt === null) await store.noteAsleep(ctx.db, tenant.id, ctx.clock.now());
  return observed;
}

async function tearDown(ctx: OrchestratorContext, tenant: Tenant, signal: AbortSignal): Promise<void> {
  await ctx.runtimes.remove(tenant.id, { signal });
  const left = await ctx.runtimes.inspect(tenant.id, { signal });
  if (left.state !== "absent") {
    throw new UpstreamError("runtime_still_there", `the runtime is still ${left.state} after removing it`, {
      service: "runtime",
      retryable: true,
    });
  }
  await removeTenantKeys(ctx, tenant.id);
  await ctx.db.transaction().execute(async (tx) => {
    const current = await lockTenant(tx, tenant.id);
    if (current.status !== "deprovisioning") return;
    await store.deleteRuntime(tx, tenant.id);
    await forgetTarget(tx, tenant.id);
    await endKeys(tx, current);
    const inside = { ...ctx, db: tx };
    const reason = "runtime and keys are gone, verified by reading back";
    await changeStatus(inside, tenant.id, { to: "deleted", reason, retentionDays: ctx.retentionDays });
    if (current.provisionWhenDeleted) {
      await changeStatus(inside, tenant.id, {
        to: "provisioning",
        reason: "entitled again while it was being removed",
      });
    }
  });
}

/** Not ready yet, throttled, still propagating: why is kept and shown, and no attempt is burnt. */
async function lookAgain(ctx: OrchestratorContext, tenant: Tenant, { message, afterMs }: DeferredError): Promise<void> {
  const known = await store.findRuntime(ctx.db, tenant.id);
  const now = ctx.clock.now();
  await store.recordDeferral(ctx.db, { tenantId: tenant.id, driver: ctx.runtimes.name, reason: message, at: now });
  // Not after a deadline: whoever waits for it is told then (F51).
  const leftMs = (tenant.provisioningDeadline?.getTime() ?? Number.POSITIVE_INFINITY) - now.getTime();
  // What takes long is looked at seldom.
  const sinceMs = known?.state === "starting" ? now.getTime() - known.stateSince.getTime() : 0;
  const patientMs = Math.max(afterMs, Math.min(MAX_BACKOFF_MS, sinceMs / 10));
  const delayMs = Math.max(0, Math.min(patientMs, leftMs));
  const { isMoving } = await readTarget(ctx.db, tenant.id, ctx.fleet);
  await enqueueConverge(ctx.db, tenant.id, {
    delayMs,
    urgency: urgencyOf(tenant, { lastSeen: known?.state, isMoving }),
  });
}

async function retryAfterFailure(ctx: OrchestratorContext, tenant: Tenant, error: unknown): Promise<void> {
  const reason = errorMessage(error);
  const attempts = await store.recordFailure(ctx.db, {
    tenantId: tenant.id,
    driver: ctx.runtimes.name,
    image: "",
    reason,
    at: ctx.clock.now(),
    since: tenant.statusChangedAt,
  });
  ctx.log.warn({ tenantId: tenant.id, status: tenant.status, attempts, error }, "runtime does not follow yet");
  if (tenant.status === "provisioning" && attempts >= MAX_ATTEMPTS) {
    return giveUp(ctx, tenant, `given up after ${attempts} attempts: ${reason}`);
  }
  await enqueueConverge(ctx.db, tenant.id, {
    delayMs: Math.min(MAX_BACKOFF_MS, 1_000 * 2 ** Math.min(attempts - 1, 10)),
  });
}

function starting(spec: RuntimeSpec): ObservedRuntime {
  const { tenantId } = spec;
  return { tenantId, state: "starting", address: undefined, image: "", specHash: "", reason: undefined, drift: [] };
}

async function recordObservation(
  ctx: { db: Db; clock: TenantsContext["clock"]; runtimes: RuntimeDriver },
  spec: RuntimeSpec,
  tenant: Tenant,
  observed: ObservedRuntime,
): Promise<void> {
  const now = ctx.clock.now();
  const isCurrent = observed.specHash === spec.hash;
  const before = await store.findRuntime(ctx.db, tenant.id);
  const isFirst = before === undefined || before.specHash === "";
  const wasRunning = before?.state === "running" && before.specHash === observed.specHash;
  await store.putRuntime(ctx.db, {
    tenantId: tenant.id,
    driver: ctx.runtimes.name,
    state: observed.state,
    address: observed.address ?? null,
    image: observed.image,
    specHash: observed.specHash,
    allowedUserId: isCurrent ? tenant.telegramUserId : null,
    // One that has yet to move over has the keys that it had.
    keyGeneration: isCurrent || isFirst ? tenant.keyGeneration : before.keyGeneration,
    reason: observed.reason ?? null,
    attempts: 0,
    // Since when, not when last seen: the router leaves a runtime that has just come up some time.
    ...(observed.state === "running" && !wasRunning ? { healthyAt: now } : {}),
    observedAt: now,
  });
}
