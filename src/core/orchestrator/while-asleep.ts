import { ConflictError, TimeoutError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { pause } from "../platform/pause.ts";
import { findTenantById, type Tenant, type TenantsContext } from "../tenants/tenants.ts";
import { QUIET_MS, sleepTenant, wakeTenant } from "./hibernation.ts";
import * as store from "./store.ts";

const POLL_MS = 250;

export type Wait = {
  /** For the audit log, if it has to be put to sleep. */
  reason: string;
  timeoutMs: number;
  signal: AbortSignal;
  /** Throws when the tenant's status forbids the work. */
  check(tenant: Tenant): void;
  /** Called once, when it begins to wait. */
  onWait(tenant: Tenant): void;
};

/**
 * Does `work` while the tenant's runtime sleeps. An awake one is put to sleep the ordinary way, by a daemon and not before it is quiet,
 * and is woken afterwards whatever became of the work. Whether it sleeps is for `work` to know: until then it throws the ConflictError
 * `runtime_awake`, and is tried again. Who writes meanwhile is served first.
 * @throws TimeoutError when it does not come to rest in time.
 */
export async function whileAsleep<Result>(
  ctx: TenantsContext,
  tenantId: TenantId,
  wait: Wait,
  work: (tenant: Tenant) => Promise<Result>,
): Promise<{ result: Result; wasAwake: boolean }> {
  const deadline = performance.now() + wait.timeoutMs;
  let wasAwake = false;
  try {
    for (let attempts = 0; ; attempts += 1) {
      const tenant = await getLiving(ctx, tenantId);
      wait.check(tenant);
      const attempt = await unlessAwake(() => work(tenant));
      if (attempt !== undefined) return { ...attempt, wasAwake };
      if (attempts === 0) wait.onWait(tenant);
      if (performance.now() >= deadline) throw tooBusy(tenant, wait.timeoutMs);
      if (
        tenant.status === "active" &&
        tenant.hibernatedAt === null &&
        (!wasAwake || (await isServed(ctx, tenantId)))
      ) {
        // Before it is done: woken needlessly, it does not notice.
        wasAwake = true;
        await sleepTenant(ctx, tenantId, wait.reason);
      }
      await pause(POLL_MS, wait.signal);
      wait.signal.throwIfAborted();
    }
  } finally {
    if (wasAwake) await wakeTenant(ctx, tenantId);
  }
}

/** Whether a runtime that was woken meanwhile, by somebody who wrote, has been up long enough to have been given what waited. */
async function isServed({ db, clock }: TenantsContext, tenantId: TenantId): Promise<boolean> {
  const runtime = await store.findRuntime(db, tenantId);
  if (runtime?.state !== "running" || runtime.address === null) return false;
  return clock.now().getTime() - runtime.observedAt.getTime() >= QUIET_MS;
}

async function unlessAwake<Result>(work: () => Promise<Result>): Promise<{ result: Result } | undefined> {
  try {
    return { result: await work() };
  } catch (error) {
    if (error instanceof ConflictError && error.code === "runtime_awake") return undefined;
    throw error;
  }
}

async function getLiving({ db }: TenantsContext, tenantId: TenantId): Promise<Tenant> {
  const tenant = await findTenantById(db, tenantId);
  if (tenant !== undefined) return tenant;
  throw new ConflictError("tenant_purged", "The tenant was purged meanwhile.");
}

function tooBusy({ slug }: Tenant, timeoutMs: number): TimeoutError {
  return new TimeoutError(
    "wait_timeout",
    `The runtime of ${slug} did not come to rest within ${timeoutMs / 1_000} s. Is a daemon running, and nobody writing? Try again, or wait longer with --timeout.`,
  );
}
