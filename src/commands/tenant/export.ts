import path from "node:path";
import { Command } from "commander";
import { openBackups, type Store } from "../../core/context.ts";
import { exportTenant } from "../../core/orchestrator/backup.ts";
import type { BackupTarget } from "../../core/orchestrator/backup-output.ts";
import { PartialError, UsageError } from "../../core/platform/errors.ts";
import { getTenant, type Tenant } from "../../core/tenants/tenants.ts";
import { watchInterrupt } from "../interruption.ts";
import { printJson, printLine, say } from "../output.ts";
import { withStore } from "../session.ts";
import { describeBackup, formatBytes, manifestDocument, sayLeftOut, sayWait } from "./backup-view.ts";
import { numberFrom, patience, plainText } from "./options.ts";
import { choosePassphrase } from "./passphrase.ts";
import { exportBySnapshot } from "./snapshot.ts";

const GIB = 1_024 ** 3;

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--output <file>", "a new file, or - for standard output (default: named after tenant and time, here)")
    .option("--overwrite", "replace the file if it is there")
    .option("--passphrase-file <file>", "holds what to encrypt it with (default: OPENCLAW_BACKUP_PASSPHRASE)")
    .option("--unencrypted", "readable for whoever gets hold of it")
    .option("--max-size <GiB>", "refuse more than that", numberFrom(1, 8_192), 20)
    .option("--reason <text>", "for the audit log", plainText, "backup")
    .option("--timeout <seconds>", "how long to wait for an awake runtime to come to rest", patience, 300)
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nExamples:\n  openclaw tenant export alice\n  openclaw tenant export alice --output - | rclone rcat far:alice.sealed",
    )
    .action(async (reference: string, { maxSize, reason, timeout, json, ...options }, self: Command) =>
      withStore(async (store) => {
        const { db, config, secrets } = store;
        const isAzure = config.runtime.driver === "azure";
        if (isAzure) refuseFileOptions(self);
        const tenant = await getTenant(db, reference);
        if (isAzure) return exportBySnapshot(store, tenant, { reason, timeout, json });
        const passphrase = await choosePassphrase(options, secrets);
        const target: BackupTarget = { passphrase, ...targetOf(tenant, store, { ...options, json, passphrase }) };
        const ctx = { ...store, backups: await openBackups(config) };
        const interrupt = watchInterrupt();
        const exported = await exportTenant(ctx, tenant.id, {
          target,
          maxBytes: maxSize * GIB,
          reason,
          timeoutMs: timeout * 1_000,
          signal: interrupt.signal,
          onWait: sayWait,
        }).finally(interrupt.end);
        report(target, exported, json);
        const losses = exported.manifest.leftOut.filter(({ isLoss }) => isLoss).length;
        if (losses > 0) throw new PartialError("backup_partial", `${losses} of what is kept could not be backed up.`);
      }),
    );
}

const FILE_OPTIONS = ["output", "overwrite", "passphraseFile", "unencrypted", "maxSize"];

/** On Azure no file is written. */
function refuseFileOptions(command: Command): void {
  const given = command.options.filter(
    (option) =>
      FILE_OPTIONS.includes(option.attributeName()) && command.getOptionValueSource(option.attributeName()) === "cli",
  );
  if (given.length === 0) return;
  throw new UsageError(
    "backup_is_snapshot",
    `What runtimes on Azure keep is backed up by a snapshot of their stamp's share, which stays in Azure: leave out ${given.map(({ long }) => long).join(", ")}.`,
  );
}

function report(
  target: BackupTarget,
  { manifest, written, wasAwake }: Awaited<ReturnType<typeof exportTenant>>,
  json: boolean | undefined,
): void {
  const file = target.kind === "file" ? target.file : null;
  const { isVerified, bytes, sha256 } = written;
  if (json) {
    const archive = { file, encrypted: target.passphrase !== undefined, bytes, sha256, verified: isVerified };
    return printJson({ archive, backup: manifestDocument(manifest), woken: wasAwake });
  }
  if (file !== null) printLine(file);
  sayLeftOut(manifest);
  const check = isVerified ? "read back and found whole" : "not read back: tenant import --dry-run does that";
  say(`${describeBackup(manifest)}, in ${formatBytes(bytes)}, ${check}. SHA-256: ${sha256}`);
}

type Options = { output?: string; overwrite?: boolean; json?: boolean; passphrase: string | undefined };

function targetOf({ slug }: Tenant, { clock }: Store, { output, overwrite = false, json, passphrase }: Options) {
  if (output !== "-") {
    const time = clock
      .now()
      .toISOString()
      .replace(/[-:]|\.\d+/g, "");
    const name = output ?? `${slug}-${time}.tar.gz${passphrase === undefined ? "" : ".sealed"}`;
    return { kind: "file", file: path.resolve(name), overwrite } as const;
  }
  if (json) throw new UsageError("output_taken", "--json prints on standard output, where the backup goes.");
  if (process.stdout.isTTY)
    throw new UsageError(
      "output_is_terminal",
      "A backup is no text for a terminal; send it somewhere, or name a file.",
    );
  return { kind: "stream", stream: process.stdout } as const;
}
