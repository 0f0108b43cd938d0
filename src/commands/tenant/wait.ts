import type { Store } from "../../core/context.ts";
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
