import type { StateSnapshot } from "../../core/adapters/runtime/runtime-snapshots.ts";
import { openSnapshots, type Store } from "../../core/context.ts";
import {
  findRestorable,
  restoreTenantState,
  type SnapshotContext,
  snapshotTenant,
} from "../../core/orchestrator/snapshot.ts";
import { getTenant, type Tenant } from "../../core/tenants/tenants.ts";
import { confirm } from "../confirm.ts";
import { watchInterrupt } from "../interruption.ts";
import { printJson, printLine, say } from "../output.ts";
import { describeAfterImport, sayWait } from "./backup-view.ts";
import { tenantDocument } from "./view.ts";
import { waitUntilAwake } from "./wait.ts";

type Common = { reason: string; timeout: number; json?: boolean };
type Restoring = Common & { confirm?: string; dryRun?: boolean; input: boolean; wait?: boolean };

/** What `tenant export` does where runtimes run on Azure. */
export async function exportBySnapshot(store: Store, tenant: Tenant, options: Common): Promise<void> {
  const { snapshot, wasAwake } = await withSnapshots(store, async (ctx) => {
    const interrupt = watchInterrupt();
    return snapshotTenant(ctx, tenant.id, waitOf(options, interrupt.signal)).finally(interrupt.end);
  });
  if (options.json) return printJson({ snapshot: snapshotDocument(snapshot), woken: wasAwake });
  printLine(snapshot.time);
  say(`${capitalised(describeSnapshot(snapshot))} was taken with ${tenant.slug} asleep, and read back.`);
}

/** What `tenant import --snapshot` does. */
export async function importFromSnapshot(
  store: Store,
  tenant: Tenant,
  { time, ...options }: Restoring & { time: Date },
): Promise<void> {
  const { confirm: given, dryRun = false, input, wait, timeout, json } = options;
  await withSnapshots(store, async (ctx) => {
    const snapshot = await findRestorable(ctx, tenant, time);
    const warning = `This replaces all that the assistant of ${tenant.slug} keeps by what ${describeSnapshot(snapshot)} has of it.`;
    if (dryRun) {
      say(`The snapshot is there. Would do: ${warning}`);
      if (json) printJson(documentOf(tenant, snapshot, { imported: false, woken: false }));
      return;
    }
    await confirm({ warning, word: tenant.slug, given, input });
    const interrupt = watchInterrupt();
    const how = { snapshot, ...waitOf(options, interrupt.signal) };
    const { wasAwake } = await restoreTenantState(ctx, tenant.id, how).finally(interrupt.end);
    if (wait && wasAwake) await waitUntilAwake(store, tenant, timeout * 1_000);
    const after = await getTenant(store.db, tenant.id);
    if (json) return printJson(documentOf(after, snapshot, { imported: true, woken: wasAwake }));
    const next = describeAfterImport(after, { wasAwake, waited: wait === true });
    say(`${after.slug} has its state of ${describeSnapshot(snapshot)}; ${next}.`);
  });
}

async function withSnapshots<Result>(store: Store, work: (ctx: SnapshotContext) => Promise<Result>): Promise<Result> {
  const snapshots = await openSnapshots(store);
  try {
    return await work({ ...store, snapshots });
  } finally {
    await snapshots.close();
  }
}

function waitOf({ reason, timeout }: Common, signal: AbortSignal) {
  return { reason, timeoutMs: timeout * 1_000, signal, onWait: sayWait };
}

/** The documented JSON form. */
function snapshotDocument({ time, stampId, storageAccount, share }: StateSnapshot) {
  return { time, stamp: stampId, storageAccount, share };
}

function documentOf(tenant: Tenant, snapshot: StateSnapshot, outcome: { imported: boolean; woken: boolean }) {
  return { tenant: tenantDocument(tenant), snapshot: snapshotDocument(snapshot), ...outcome };
}

function describeSnapshot({ time, stampId, storageAccount, share }: StateSnapshot): string {
  return `the snapshot ${time} of the share ${share} on ${storageAccount} (stamp ${stampId})`;
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
