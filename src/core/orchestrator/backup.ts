import type { RuntimeBackups } from "../adapters/runtime/runtime-backups.ts";
import type { StateManifest } from "../adapters/runtime/state-manifest.ts";
import { writeAudit } from "../platform/audit.ts";
import { ConflictError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Tenant, TenantsContext, TenantStatus } from "../tenants/tenants.ts";
import { readBackup } from "./backup-file.ts";
import { type BackupTarget, openOutput, type WrittenBackup } from "./backup-output.ts";
import { type Wait, whileAsleep } from "./while-asleep.ts";

export type BackupContext = TenantsContext & { backups: RuntimeBackups };
type Waiting = Omit<Wait, "check">;

const EXPORTABLE: readonly TenantStatus[] = ["pending", "active", "suspended", "deleted"];
const IMPORTABLE: readonly TenantStatus[] = ["pending", "active", "suspended"];

/**
 * Writes a backup of what the tenant's runtime keeps; it counts as done when it was read back. The runtime sleeps meanwhile, and is
 * awake again afterwards if it was, whatever became of the backup.
 */
export async function exportTenant(
  ctx: BackupContext,
  tenantId: TenantId,
  { target, maxBytes, ...waiting }: Waiting & { target: BackupTarget; maxBytes: number },
): Promise<{ manifest: StateManifest; written: WrittenBackup; wasAwake: boolean }> {
  const { reason, signal } = waiting;
  const output = await openOutput(target);
  try {
    const wait = { ...waiting, check: requireExportable };
    const { result: manifest, wasAwake } = await whileAsleep(ctx, tenantId, wait, ({ slug }) =>
      ctx.backups.exportState(tenantId, {
        slug,
        createdAt: ctx.clock.now(),
        maxBytes,
        write: (archive) => output.write(archive, signal),
        signal,
      }),
    );
    const written = await output.finish(manifest, signal);
    const detail = { ...sizesOf(manifest), encrypted: target.passphrase !== undefined, sha256: written.sha256 };
    await audit(ctx, tenantId, { action: "tenant.exported", reason, detail });
    return { manifest, written, wasAwake };
  } catch (error) {
    await output.discard();
    throw error;
  }
}

/**
 * Replaces what the tenant's runtime keeps by what a backup holds, also one of another tenant. All of the backup is checked before anything
 * is replaced. The runtime sleeps meanwhile, and is woken afterwards if it was awake.
 */
export async function importTenant(
  ctx: BackupContext,
  tenantId: TenantId,
  { file, passphrase, ...waiting }: Waiting & { file: string; passphrase: string | undefined },
): Promise<{ manifest: StateManifest; wasAwake: boolean }> {
  const { reason, signal } = waiting;
  const wait = { ...waiting, check: requireImportable };
  const { result: manifest, wasAwake } = await whileAsleep(ctx, tenantId, wait, async () => {
    const imported = await ctx.backups.importState(tenantId, readBackup(file, passphrase), signal);
    const { createdAt, slug } = imported;
    const detail = { ...sizesOf(imported), from: { tenantId: imported.tenantId, slug, createdAt } };
    await audit(ctx, tenantId, { action: "tenant.imported", reason, detail });
    return imported;
  });
  return { manifest, wasAwake };
}

/** @throws ConflictError when the state of a tenant that is as this one is can't be copied. */
export function requireExportable(tenant: Tenant): void {
  requireStatus(tenant, EXPORTABLE);
}

/** @throws ConflictError when a state can't be put into a tenant that is as this one is. */
export function requireImportable(tenant: Tenant): void {
  requireStatus(tenant, IMPORTABLE);
}

function requireStatus({ slug, status }: Tenant, allowed: readonly TenantStatus[]): void {
  if (allowed.includes(status)) return;
  const remedy =
    status === "deleted"
      ? `bring it back first, before it runs: openclaw tenant restore ${slug} --unpaid`
      : `wait until that is over: openclaw tenant show ${slug}`;
  throw new ConflictError("status_passing", `Tenant ${slug} is ${status}; ${remedy}`);
}

function sizesOf({ files, bytes, leftOut }: StateManifest) {
  return { files, bytes, leftOut: leftOut.length };
}

async function audit(
  ctx: BackupContext,
  tenantId: TenantId,
  entry: { action: string; reason: string; detail: Record<string, unknown> },
): Promise<void> {
  await writeAudit(ctx.db, { at: ctx.clock.now(), actor: ctx.actor, tenantId, ...entry });
}
