import { listSteps, type RuntimeStep } from "../adapters/runtime/journal.ts";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import { listTenantEvents } from "../tenants/tenants.ts";

type AuditEntry = Awaited<ReturnType<typeof listTenantEvents>>[number];

/** What somebody decided about a tenant, or what was done to its runtime. */
export type HistoryEntry = ({ kind: "audit" } & AuditEntry) | ({ kind: "step" } & RuntimeStep);

/** The newest `limit` entries of both, oldest first. */
export async function listTenantHistory(db: Db, tenantId: TenantId, limit: number): Promise<HistoryEntry[]> {
  const entries = await listTenantEvents(db, tenantId, limit);
  const steps = await listSteps(db, tenantId, limit);
  const both: HistoryEntry[] = [
    ...entries.map((entry) => ({ kind: "audit" as const, ...entry })),
    ...steps.map((step) => ({ kind: "step" as const, ...step })),
  ];
  return both.toSorted((one, other) => one.at.getTime() - other.at.getTime()).slice(-limit);
}
