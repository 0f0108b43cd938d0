import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import { enqueueConverge } from "../tenants/tenants.ts";
import * as store from "./store.ts";

/** How it stands with a tenant's convergence: its job is done, failed for now (and will try again), or goes on. */
export type Convergence = { result: "done" | "failed" | "under-way"; reason: string | null };

/**
 * Has each tenant's runtime made what it should be, also where nothing was found, without waiting out a backoff.
 * @returns how to tell what became of them, for `readConvergence`.
 */
export async function reconcileTenants(db: Db, tenantIds: readonly TenantId[]): Promise<ReadonlyMap<TenantId, number>> {
  const attempts = new Map((await store.listRuntimes(db)).map((row) => [row.tenantId, row.attempts]));
  for (const tenantId of tenantIds) await enqueueConverge(db, tenantId);
  return new Map(tenantIds.map((tenantId) => [tenantId, attempts.get(tenantId) ?? 0]));
}

/** What became of the tenants by now. `before`: how often each had failed in a row when it was asked for. */
export async function readConvergence(
  db: Db,
  before: ReadonlyMap<TenantId, number>,
): Promise<Map<TenantId, Convergence>> {
  const waiting = await store.listConverging(db, [...before.keys()]);
  const runtimes = new Map((await store.listRuntimes(db)).map((row) => [row.tenantId, row]));
  const judge = (tenantId: TenantId, failures: number): Convergence => {
    const { attempts = 0, reason = null } = runtimes.get(tenantId) ?? {};
    if (!waiting.has(tenantId)) return { result: "done", reason: null };
    return { result: attempts > failures ? "failed" : "under-way", reason };
  };
  return new Map([...before].map(([tenantId, failures]) => [tenantId, judge(tenantId, failures)]));
}
