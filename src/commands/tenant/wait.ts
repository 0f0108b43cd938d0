import type { Store } from "../../core/context.ts";
import { findRuntime } from "../../core/orchestrator/orchestrator.ts";
import { TimeoutError } from "../../core/platform/errors.ts";
import type { TenantId } from "../../core/platform/ids.ts";
import { getTenant, type Tenant, type TenantStatus } from "../../core/tenants/tenants.ts";

const POLL_MS = 250;

/**
 * Waits until the tenant is no longer in `passing`.
 * @throws TimeoutError after `timeoutMs`; the work itself goes on.
 */
export async function waitWhile(
  store: Store,
  tenantId: TenantId,
  passing: TenantStatus,
  timeoutMs: number,
): Promise<Tenant> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const tenant = await getTenant(store.db, tenantId);
    if (tenant.status !== passing) return tenant;
    if (performance.now() >= deadline) {
      throw new TimeoutError(
        "wait_timeout",
        `${tenant.slug} is still ${passing} after ${timeoutMs / 1_000} s; it goes on. Is a daemon running?`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/**
 * Waits until a runtime that was woken can be reached.
 * @throws TimeoutError after `timeoutMs`; the work itself goes on.
 */
export async function waitUntilAwake(store: Store, { id, slug }: Tenant, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const runtime = await findRuntime(store.db, id);
    if (runtime?.state === "running" && runtime.address !== null) return;
    if (performance.now() >= deadline) {
      throw new TimeoutError(
        "wait_timeout",
        `The runtime of ${slug} is still ${runtime?.state ?? "absent"} after ${timeoutMs / 1_000} s; it goes on. See: openclaw tenant show ${slug}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
