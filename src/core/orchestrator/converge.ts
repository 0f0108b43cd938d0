import type { ObservedRuntime, RuntimeDriver, RuntimeSpec } from "../adapters/runtime/runtime-driver.ts";
import type { Vault } from "../adapters/vault/vault.ts";
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
  switch (tenant.status) {
    case "provisioning":
      return bringUp(ctx, tenant, signal);
    case "active":
      return tenant.hibernatedAt === null
        ? bringUp(ctx, tenant, signal)
        : hibernate(ctx, tenant, tenant.hibernatedAt, signal);
    case "suspended":
    case "pending":
      return putToSleep(ctx, tenant, signal);
    case "deprovisioning":
      return tearDown(ctx, tenant);
    case "deleted":
      return;
    default:
      return assertNever(tenant.status);
  }
}

async function bringUp(ctx: OrchestratorContext, tenant: Tenant, signal: AbortSignal): Promise<void> {
  if (tenant.provisioningDeadline !== null && tenant.provisioningDeadline <= ctx.clock.now()) {
    const last = await store.findRuntime(ctx.db, tenant.id);
    return giveUp(ctx, tenant, `not healthy before the deadline: ${last?.reason ?? "it was still starting"}`);
  }
  const target = await readTarget(ctx.db, tenant.id, ctx.fleet);
  await beginWith(ctx, tenant, target);
  const spec = computeSpec(tenant, target.settings);
  const known = await store.findRuntime(ctx.db, tenant.id);
  if (known === undefined) await recordObservation(ctx, spec, tenant, starting(spec));
  await ensureTenantKeys(ctx, tenant.id, tenant.keyGeneration);
  await stopIfSecretDiffers(ctx, known);
  const call = { signal, urgency: urgencyOf(tenant, { lastSeen: known?.state, isMoving: target.isMoving }) };
  const ensured = await ctx.runtimes.ensure(spec, call);
  const awake = ensured.state === "asleep" ? await ctx.runtimes.wake(tenant.id, call) : ensured;
  const observed = awake.state === "running" ? awake : await ctx.runtimes.inspect(tenant.id, call);
  if (observed.state === "failed") {
    throw new UpstreamError("runtime_failed", `the runtime failed: ${observed.reason ?? "no reason given"}`, {
      service: "runtime",
      retryable: true,
    });
  }
  await recordObservation(ctx, spec, tenant, observed);
  if (observed.state === "running" && observed.specHash === spec.hash) {
    if (target.state !== "good") await noteTarget(ctx.db, tenant.id, target, { state: "good", at: ctx.clock.now() });
    return becomeActive(ctx, tenant);
  }
  // Not ready yet, or not replaced yet, is no failure: look again soon, without burning an attempt.
  await enqueueConverge(ctx.db, tenant.id, { delayMs: READY_POLL_MS, urgency: call.urgency });
}

/** A newcomer keeps the release that it begins with, and one that took a release over asleep is to show that it runs. */
async function beginWith(ctx: OrchestratorContext, tenant: Tenant, target: Target): Promise<void> {
  const at = ctx.clock.now();
  if (target.state === undefined) await keepTarget(ctx.db, tenant.id, target, at);
  if (target.state === "asleep") await noteTarget(ctx.db, tenant.id, target, { state: "waking", at });
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
async function hibernate(ctx: OrchestratorContext, tenant: Tenant, since: Date, signal: AbortSignal): Promise<void> {
  const quietMs = ctx.clock.now().getTime() - since.getTime();
  if (quietMs < QUIET_MS) return enqueueConverge(ctx.db, tenant.id, { delayMs: QUIET_MS - quietMs });
  const last = (await ctx.lastActivity(ctx.db, [tenant.id])).get(tenant.id);
  if (last !== undefined && last >= since) return wakeTenant(ctx, tenant.id);
  const restMs = last === undefined ? 0 : last.getTime() + REST_MS - ctx.clock.now().getTime();
  if (restMs > 0) return enqueueConverge(ctx.db, tenant.id, { delayMs: restMs });
  await putToSleep(ctx, tenant, signal);
}

async function putToSleep(ctx: OrchestratorContext, tenant: Tenant, signal: AbortSignal): Promise<void> {
  const target = await readTarget(ctx.db, tenant.id, ctx.fleet);
  const known = await store.findRuntime(ctx.db, tenant.id);
  const hasSettled = known === undefined || (await settleAsleep(ctx, tenant, { target, known, signal }));
  // Not replaced yet is no failure: look again soon.
  if (!hasSettled) return enqueueConverge(ctx.db, tenant.id, { delayMs: READY_POLL_MS });
  if (target.state === "set" || target.state === "waking")
    await noteTarget(ctx.db, tenant.id, target, { state: "asleep", at: ctx.clock.now() });
}

/**
 * Puts the runtime to sleep and has it take over what it is to be, without waking it (F39, F40).
 * @returns whether it has; one that is gone takes it when it is made anew.
 */
async function settleAsleep(
  ctx: OrchestratorContext,
  tenant: Tenant,
  { target, known, signal }: { target: Target; known: store.RuntimeRow; signal: AbortSignal },
): Promise<boolean> {
  const call = { signal, urgency: urgencyOf(tenant, { lastSeen: known.state, isMoving: target.isMoving }) };
  const stopped = await ctx.runtimes.sleep(tenant.id, call);
  const { state, address } = stopped;
  const now = ctx.clock.now();
  // Whether attempts were in vain is said once it has all that it should.
  await store.putRuntime(ctx.db, { ...known, state, address: address ?? null, observedAt: now });
  if (tenant.hibernatedAt === null) await store.noteAsleep(ctx.db, tenant.id, now);
  const spec = computeSpec(tenant, target.settings);
  // Nobody pays for a pending tenant's runtime: it stays what it is.
  const isBehind = tenant.status !== "pending" && state === "asleep" && stopped.specHash !== spec.hash;
  if (isBehind) await ensureTenantKeys(ctx, tenant.id, tenant.keyGeneration);
  const observed = isBehind ? await ctx.runtimes.ensure(spec, call) : stopped;
  await recordObservation(ctx, spec, tenant, observed);
  if (tenant.status === "pending" || observed.state === "absent") return true;
  return observed.state === "asleep" && observed.specHash === spec.hash;
}

async function tearDown(ctx: OrchestratorContext, tenant: Tenant): Promise<void> {
  await ctx.runtimes.remove(tenant.id);
  const left = await ctx.runtimes.inspect(tenant.id);
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
  await store.recordDeferral(ctx.db, {
    tenantId: tenant.id,
    driver: ctx.runtimes.name,
    reason: message,
    at: ctx.clock.now(),
  });
  await enqueueConverge(ctx.db, tenant.id, { delayMs: afterMs });
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
