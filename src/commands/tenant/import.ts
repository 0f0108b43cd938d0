import { Command } from "commander";
import type { StateManifest } from "../../core/adapters/runtime/state-manifest.ts";
import { openBackups, type Store } from "../../core/context.ts";
import { importTenant, requireImportable } from "../../core/orchestrator/backup.ts";
import { inspectBackup } from "../../core/orchestrator/backup-file.ts";
import { UsageError } from "../../core/platform/errors.ts";
import { getTenant, type Tenant } from "../../core/tenants/tenants.ts";
import { confirm } from "../confirm.ts";
import { watchInterrupt } from "../interruption.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { describeAfterImport, describeBackup, manifestDocument, sayLeftOut, sayWait } from "./backup-view.ts";
import { moment, patience, plainText } from "./options.ts";
import { findPassphrase } from "./passphrase.ts";
import { importFromSnapshot } from "./snapshot.ts";
import { tenantDocument } from "./view.ts";
import { waitUntilAwake } from "./wait.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .argument("[file]", "what openclaw tenant export has written, for this tenant or another")
    .option("--snapshot <time>", "in place of a file, on Azure: the name of a snapshot of the stamp's share", moment)
    .option("--passphrase-file <file>", "holds what it was encrypted with (default: OPENCLAW_BACKUP_PASSPHRASE)")
    .option("--confirm <slug>", "the tenant's slug again, for scripts")
    .option("--dry-run", "check all of the backup, say what would happen and change nothing")
    .option("--no-input", "never ask")
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--wait", "until a runtime that was awake is awake again")
    .option("--timeout <seconds>", "how long to wait for that, and before for it to come to rest", patience, 300)
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nExamples:\n  openclaw tenant import alice alice-20260301T120000Z.tar.gz.sealed --confirm alice\n  openclaw tenant import alice --snapshot 2026-03-01T12:00:00.0000000Z --confirm alice",
    )
    .action(async (reference: string, file: string | undefined, options) =>
      withStore(async (store) => {
        const { passphraseFile, confirm: given, dryRun = false, input, reason, wait, timeout, json } = options;
        const source = sourceOf(file, options, store);
        const tenant = await getTenant(store.db, reference);
        requireImportable(tenant);
        if (source.kind === "snapshot") return importFromSnapshot(store, tenant, { ...options, time: source.time });
        const passphrase = await findPassphrase(passphraseFile, store.secrets);
        const ctx = { ...store, backups: await openBackups(store.config) };
        const backup = await inspectBackup(source.file, passphrase);
        const warning = warningOf(tenant, backup);
        if (dryRun) {
          say(`The backup is whole. Would do: ${warning}`);
          sayLeftOut(backup);
          return json ? printJson(documentOf(tenant, backup, { imported: false, woken: false })) : undefined;
        }
        await confirm({ warning, word: tenant.slug, given, input });
        const interrupt = watchInterrupt();
        const timeoutMs = timeout * 1_000;
        const how = { file: source.file, passphrase, reason, timeoutMs, signal: interrupt.signal, onWait: sayWait };
        const { manifest, wasAwake } = await importTenant(ctx, tenant.id, how).finally(interrupt.end);
        if (wait && wasAwake) await waitUntilAwake(store, tenant, timeoutMs);
        const after = await getTenant(store.db, tenant.id);
        if (json) return printJson(documentOf(after, manifest, { imported: true, woken: wasAwake }));
        const next = describeAfterImport(after, { wasAwake, waited: wait === true });
        say(`${after.slug} has ${describeBackup(manifest)}; ${next}.`);
      }),
    );
}

type Source = { kind: "file"; file: string } | { kind: "snapshot"; time: Date };

/** @throws UsageError unless it is what this installation's runtimes can be restored from. */
function sourceOf(
  file: string | undefined,
  { snapshot: time, passphraseFile }: { snapshot?: Date; passphraseFile?: string },
  { config }: Store,
): Source {
  const isAzure = config.runtime.driver === "azure";
  if (isAzure && file === undefined && passphraseFile === undefined && time !== undefined)
    return { kind: "snapshot", time };
  if (!isAzure && file !== undefined && time === undefined) return { kind: "file", file };
  throw new UsageError(
    "source_unfit",
    isAzure
      ? "What runtimes on Azure keep is restored from a snapshot of their stamp's share, without a file or passphrase: name it with --snapshot <time>."
      : "What runtimes on this machine keep is restored from a file of openclaw tenant export: name it after the tenant, without --snapshot.",
  );
}

function documentOf(tenant: Tenant, backup: StateManifest, outcome: { imported: boolean; woken: boolean }) {
  return { tenant: tenantDocument(tenant), backup: manifestDocument(backup), ...outcome };
}

function warningOf({ id, slug }: Tenant, backup: StateManifest): string {
  const what = `This replaces all that the assistant of ${slug} keeps by ${describeBackup(backup)}.`;
  return backup.tenantId === id ? what : `${what} That is ANOTHER TENANT'S, with the id ${backup.tenantId}.`;
}
