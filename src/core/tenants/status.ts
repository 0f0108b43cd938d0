import type { Urgency } from "../adapters/runtime/runtime-driver.ts";
import { type Actor, writeAudit } from "../platform/audit.ts";
import { addMs, type Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { ConflictError, NotFoundError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { enqueueJobs } from "../platform/jobs.ts";
import * as store from "./store.ts";
import type { Tenant } from "./store.ts";
import { canTransition, nextStatuses, type TenantStatus } from "./transitions.ts";

export type TenantsContext = { db: Db; clock: Clock; actor: Actor };

const DAY_MS = 86_400_000;
const PROVISIONING_DEADLINE_MS = 30 * 60_000;
/** Of jobs: what a subscriber waits for comes before what nobody sees. */
const PRIORITIES: Record<Urgency, number> = { wake: -20, provision: -10, repair: 0, sweep: 10, rollout: 20 };

export type StatusChange =
  | { to: "pending" | "provisioning" | "active" | "deprovisioning"; reason: string }
  | { to: "suspended"; reason: string; suspendedBy: "billing" | "operator" }
  | { to: "deleted"; reason: string; retentionDays: number };

/**
 * Moves a tenant along the transition table, in `ctx.db`'s transaction, with its audit entry and the job that makes the
 * runtime follow. The row is locked, so that two changes at once are applied one after the other.
 * @throws ConflictError when the table has no such transition.
 */
export async function changeStatus(ctx: TenantsContext, tenantId: TenantId, change: StatusChange): Promise<Tenant> {
  const before = await lockTenant(ctx.db, tenantId);
  if (!canTransition(before.status, change.to)) throw transitionRefused(before, change.to);
  const now = ctx.clock.now();
  const after = await store.update(ctx.db, tenantId, {
    status: change.to,
    statusReason: change.reason,
    statusChangedAt: now,
    updatedAt: now,
    suspendedBy: change.to === "suspended" ? change.suspendedBy : null,
    provisioningDeadline: change.to === "provisioning" ? addMs(now, PROVISIONING_DEADLINE_MS) : null,
    purgeAfter: change.to === "deleted" ? addMs(now, change.retentionDays * DAY_MS) : null,
    ...(change.to === "deprovisioning" || change.to === "deleted" ? {} : { provisionWhenDeleted: false }),
    // A suspended runtime is put to sleep by the job below, which records when it really sleeps; whoever is active again is to be awake (F54).
    ...(change.to === "suspended" || change.to === "deprovisioning" ? {} : { hibernatedAt: null }),
  });
  await writeAudit(ctx.db, {
    at: now,
    actor: ctx.actor,
    action: "tenant.status",
    tenantId,
    reason: change.reason,
    detail: { from: before.status, to: change.to, ...("suspendedBy" in change ? { by: change.suspendedBy } : {}) },
  });
  await enqueueConverge(ctx.db, tenantId, { urgency: urgencyOf(before.status, change.to) });
  return after;
}

function urgencyOf(from: TenantStatus, to: TenantStatus): Urgency {
  if (to === "provisioning") return "provision";
  return from === "suspended" && to === "active" ? "wake" : "repair";
}

function transitionRefused(tenant: Tenant, to: TenantStatus): ConflictError {
  const allowed = nextStatuses(tenant.status).join(", ");
  return new ConflictError(
    "transition_not_allowed",
    `Tenant ${tenant.slug} is ${tenant.status}; it can't become ${to} from there (possible: ${allowed}).`,
  );
}

/** The tenant, its row locked until the transaction of `db` ends. */
export async function lockTenant(db: Db, tenantId: TenantId): Promise<Tenant> {
  const tenant = await store.lock(db, tenantId);
  if (tenant === undefined) throw new NotFoundError("tenant_not_found", `No tenant with the id ${tenantId}.`);
  return tenant;
}

/**
 * Has the runtime made what the tenant's status says: at most one job waits per tenant, at most one runs. A repair unless told
 * otherwise; one that waits stays as urgent as it was.
 */
export async function enqueueConverge(
  db: Db,
  tenantId: TenantId,
  when: { delayMs?: number; keepsTime?: boolean; urgency?: Urgency } = {},
): Promise<void> {
  await enqueueConvergeAll(db, [tenantId], when);
}

/** The same for many, in one statement. */
export async function enqueueConvergeAll(
  db: Db,
  tenantIds: readonly TenantId[],
  { urgency = "repair", ...when }: { delayMs?: number; keepsTime?: boolean; urgency?: Urgency } = {},
): Promise<void> {
  const jobs = tenantIds.map((tenantId) => ({
    payload: { tenantId },
    queue: `tenant:${tenantId}`,
    key: `converge:${tenantId}`,
  }));
  await enqueueJobs(db, "tenant.converge", jobs, { ...when, priority: PRIORITIES[urgency] });
}
