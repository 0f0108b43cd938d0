import type { Db } from "./db.ts";
import type { TenantId } from "./ids.ts";

/** Who does something: an operator's name, or the part of the system that acts on its own. */
export type Actor = { name: string; requestId?: string | undefined };

export type AuditEntry = {
  at: Date;
  actor: Actor;
  /** What was done, as `noun.verb`. */
  action: string;
  tenantId?: TenantId;
  reason?: string | undefined;
  /** Facts worth keeping; never a secret, never what somebody wrote. */
  detail?: Record<string, unknown>;
};

/** Adds one line to the audit log, in the transaction of the change that it records. */
export async function writeAudit(db: Db, entry: AuditEntry): Promise<void> {
  await writeAuditEntries(db, [entry]);
}

/** Adds a line for each, in their order, likewise. */
export async function writeAuditEntries(db: Db, entries: readonly AuditEntry[]): Promise<void> {
  if (entries.length === 0) return;
  await db
    .insertInto("auditLog")
    .values(
      entries.map((entry) => ({
        at: entry.at,
        actor: entry.actor.name,
        action: entry.action,
        tenantId: entry.tenantId ?? null,
        reason: entry.reason ?? null,
        requestId: entry.actor.requestId ?? null,
        detail: JSON.stringify(entry.detail ?? {}),
      })),
    )
    .execute();
}
