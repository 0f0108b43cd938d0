import path from "node:path";
import { Command } from "commander";
import { FindingError, UsageError } from "../core/platform/errors.ts";
import { checkSchema, migrate, migrationStatus, readMigrations } from "../core/platform/migrations.ts";
import { packageRoot } from "../core/platform/package-root.ts";
import type { Store } from "../core/context.ts";
import { printJson, printLine, printTable, say } from "./output.ts";
import { withStore } from "./session.ts";
import { formatTime } from "./tenant/view.ts";

type Options = { check?: boolean; status?: boolean; dryRun?: boolean; json?: boolean };

export function command(): Command {
  return new Command()
    .option("--check", "exit 8 unless files, ledger and live schema agree")
    .option("--status", "list the migrations and change nothing")
    .option("--dry-run", "print the SQL that would run and change nothing")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw migrate --check")
    .action(async (options: Options) => {
      if ([options.check, options.status, options.dryRun].filter(Boolean).length > 1) {
        throw new UsageError("options_conflict", "--check, --status and --dry-run exclude one another.");
      }
      const run = options.check ? check : options.status ? status : options.dryRun ? dryRun : apply;
      await withStore((store) => run(store, path.join(packageRoot(), "migrations"), options));
    });
}

async function apply({ pool }: Store, folder: string, { json }: Options): Promise<void> {
  const { applied } = await migrate(pool, folder);
  if (json) return printJson({ applied });
  for (const name of applied) say(`applied ${name}`);
  say(applied.length === 0 ? "The database is current." : `Applied ${applied.length}.`);
}

async function status({ pool }: Store, folder: string, { json }: Options): Promise<void> {
  const migrations = await migrationStatus(pool, folder);
  if (json) return printJson({ migrations });
  printTable(
    ["MIGRATION", "STATE", "APPLIED"],
    migrations.map(({ name, state, appliedAt }) => [name, state, formatTime(appliedAt ?? null)]),
  );
}

async function dryRun({ pool }: Store, folder: string, { json }: Options): Promise<void> {
  const states = await migrationStatus(pool, folder);
  const names = new Set(states.filter((row) => row.state === "pending").map((row) => row.name));
  const pending = (await readMigrations(folder)).filter((migration) => names.has(migration.name));
  if (json) return printJson({ pending: pending.map(({ name, sql }) => ({ name, sql })) });
  if (pending.length === 0) say("Nothing is pending.");
  for (const { name, sql } of pending) printLine(`-- ${name}\n${sql}`);
}

async function check({ pool, databaseUrl, config }: Store, folder: string, { json }: Options): Promise<void> {
  const findings = await checkSchema({ pool, url: databaseUrl, shadowUrl: config.shadowDatabaseUrl, dir: folder });
  if (findings.length === 0) return json ? printJson({ findings }) : say("Migrations, ledger and schema agree.");
  if (json) printJson({ findings });
  else
    for (const { message, sql } of findings) printLine(sql === undefined ? `-- ${message}` : `-- ${message}\n${sql}`);
  throw new FindingError(
    "schema_differs",
    `${findings.length} ${findings.length === 1 ? "thing differs" : "things differ"}.`,
  );
}
