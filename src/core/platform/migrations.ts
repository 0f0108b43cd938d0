import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { type Catalog, readCatalog } from "./catalog.ts";
import { diffCatalogs } from "./catalog-diff.ts";
import { ConflictError, errorMessage } from "./errors.ts";
import { type LedgerRow, type Migration, planMigrations, type Problem } from "./migration-plan.ts";
import { connectTo, isConnectionFailure, unreachable } from "./postgres-connection.ts";
import { type ShadowOptions, withShadowDatabase } from "./shadow-database.ts";

export type Finding = { kind: Problem["kind"] | "pending" | "drift"; message: string; sql?: string };

export type MigrationState = {
  name: string;
  state: "applied" | "pending" | "edited" | "missing-file";
  appliedAt: Date | undefined;
};

/** Any number, the same in all releases: whoever holds it in a database is migrating it. */
const ADVISORY_LOCK = 5_318_008_101;
const LOCK_POLL_MS = 100;

const LEDGER_SQL = `CREATE TABLE IF NOT EXISTS public.schema_migrations (
  name        text PRIMARY KEY,
  checksum    text NOT NULL,
  applied_at  timestamptz NOT NULL DEFAULT now()
)`;

/** The migrations in `dir`, in order. @throws ConflictError when a file's name has no place in the order. */
export async function readMigrations(dir: string): Promise<Migration[]> {
  const names = (await readdir(dir)).filter((name) => name.endsWith(".sql")).sort();
  return await Promise.all(
    names.map(async (name) => {
      if (!/^[0-9]{4}_[a-z0-9_]+\.sql$/.test(name)) {
        throw new ConflictError("migration_name", `Migration ${name}: name it like 0042_what_it_does.sql.`);
      }
      const sql = await readFile(path.join(dir, name), "utf8");
      return { name, sql, checksum: createHash("sha256").update(sql).digest("hex") };
    }),
  );
}

/**
 * Brings the database up to date: graphile-worker's own schema, then every pending file in a transaction of its own.
 * Runs at the same time wait for one another, and the later ones find nothing to do.
 * @throws ConflictError when files and ledger don't fit (nothing is applied then), or when a file fails, in which case
 * those before it stay applied; UpstreamError when PostgreSQL can't be reached.
 */
export async function migrate(
  pool: pg.Pool,
  dir: string,
  options: { signal?: AbortSignal } = {},
): Promise<{ applied: string[] }> {
  const files = await readMigrations(dir);
  const client = await connectTo(pool);
  try {
    await takeLock(client, options.signal);
    await client.query(LEDGER_SQL);
    const { pending, problems } = planMigrations(files, await readLedger(client));
    if (problems.length > 0)
      throw new ConflictError("migrations_conflict", problems.map(({ message }) => message).join("\n"));
    // First, because our own files may refer to it.
    await installJobSchema(pool);
    for (const file of pending) {
      options.signal?.throwIfAborted();
      await apply(client, file);
    }
    return { applied: pending.map(({ name }) => name) };
  } catch (error) {
    throw isConnectionFailure(error) ? unreachable(error) : error;
  } finally {
    // Closing the session gives the lock back, whatever state the session is in.
    client.release(true);
  }
}

/** Every migration that has a file or was applied, in order. */
export async function migrationStatus(pool: pg.Pool, dir: string): Promise<MigrationState[]> {
  const files = await readMigrations(dir);
  const ledger = await withClient(pool, readLedger);
  const { problems } = planMigrations(files, ledger);
  const appliedAt = new Map(ledger.map((row) => [row.name, row.appliedAt]));
  const names = [...new Set([...files.map(({ name }) => name), ...appliedAt.keys()])].sort();
  return names.map((name) => {
    const changed = problems.find(
      (item) => item.name === name && (item.kind === "edited" || item.kind === "missing-file"),
    );
    const state =
      changed?.kind === "edited" || changed?.kind === "missing-file"
        ? changed.kind
        : appliedAt.has(name)
          ? "applied"
          : "pending";
    return { name, state, appliedAt: appliedAt.get(name) };
  });
}

/**
 * Whether every migration of this release is applied as it stands in its file. A database that is ahead is fine: during a
 * rollout, the older daemons go on serving.
 */
export async function isLedgerCurrent(pool: pg.Pool, dir: string): Promise<boolean> {
  const files = await readMigrations(dir);
  const applied = new Map((await withClient(pool, readLedger)).map((row) => [row.name, row.checksum]));
  return files.every((file) => applied.get(file.name) === file.checksum);
}

/**
 * Compares files, ledger and live schema; changes nothing. What the live schema should be is found by applying the applied
 * files in a throw-away database on the same server, or, when `shadowUrl` is given, in that one, which is left empty.
 * The SQL of a drift finding makes the live schema what the files say.
 * @throws ConfigError when there is no way to a shadow database; UpstreamError when PostgreSQL can't be reached.
 */
export async function checkSchema(options: ShadowOptions & { dir: string }): Promise<Finding[]> {
  const files = await readMigrations(options.dir);
  const { ledger, live } = await withClient(options.pool, async (client) => {
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    const read = { ledger: await readLedger(client), live: await readCatalog(client) };
    await client.query("COMMIT");
    return read;
  });
  const { pending, problems } = planMigrations(files, ledger);
  const findings: Finding[] = [
    ...problems.map(({ kind, message }) => ({ kind, message })),
    ...pending.map(({ name, sql }) => ({
      kind: "pending" as const,
      message: `Migration ${name} is not applied yet.`,
      sql,
    })),
  ];
  // Without the file, nothing that it made could be told from drift.
  if (problems.some(({ kind }) => kind === "missing-file")) return findings;

  const applied = new Set(ledger.map(({ name }) => name));
  return [
    ...findings,
    ...(await findDrift(
      options,
      files.filter(({ name }) => applied.has(name)),
      live,
    )),
  ];
}

async function findDrift(options: ShadowOptions, files: readonly Migration[], live: Catalog): Promise<Finding[]> {
  try {
    const expected = await withShadowDatabase(options, async (shadow, shadowPool) => {
      if (files.some(({ sql }) => sql.includes("graphile_worker"))) await installJobSchema(shadowPool);
      for (const file of files) await run(shadow, file);
      return await readCatalog(shadow);
    });
    return diffCatalogs(expected, live).map((difference) => ({ kind: "drift", ...difference }));
  } catch (error) {
    // Only a file that was edited can fail here; that is what the check is to find.
    if (!(error instanceof ConflictError)) throw error;
    const reason = error.message.replaceAll(/\s+/g, " ");
    return [
      {
        kind: "drift",
        message: `The live schema can't be compared, because the files don't make a schema any more: ${reason}`,
      },
    ];
  }
}

async function apply(client: pg.PoolClient, file: Migration): Promise<void> {
  await client.query("BEGIN");
  await run(client, file);
  await client.query("INSERT INTO public.schema_migrations (name, checksum) VALUES ($1, $2)", [
    file.name,
    file.checksum,
  ]);
  await client.query("COMMIT");
}

/** The transaction of a file that fails ends with its session. */
async function run(client: pg.ClientBase, { name, sql }: Migration): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    if (isConnectionFailure(error)) throw error;
    const line = error instanceof pg.DatabaseError && error.position ? lineAt(sql, Number(error.position)) : undefined;
    const where = line === undefined ? name : `${name}, line ${line}`;
    const more =
      error instanceof pg.DatabaseError ? [error.detail, error.hint].filter(Boolean).map((text) => `\n${text}`) : [];
    throw new ConflictError("migration_failed", `Migration ${where} failed: ${errorMessage(error)}${more.join("")}`, {
      cause: error,
    });
  }
}

/** PostgreSQL counts characters, from 1. */
function lineAt(sql: string, position: number): number {
  return (
    Array.from(sql)
      .slice(0, position - 1)
      .filter((character) => character === "\n").length + 1
  );
}

async function takeLock(client: pg.PoolClient, signal: AbortSignal | undefined): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ taken: boolean }>("SELECT pg_try_advisory_lock($1) AS taken", [
      ADVISORY_LOCK,
    ]);
    if (rows[0]?.taken) return;
    await delay(LOCK_POLL_MS, undefined, { signal });
  }
}

async function readLedger(client: pg.ClientBase): Promise<LedgerRow[]> {
  const found = await client.query<{ ledger: string | null }>(
    "SELECT to_regclass('public.schema_migrations')::text AS ledger",
  );
  if (found.rows[0]?.ledger == null) return [];
  const { rows } = await client.query<LedgerRow>(
    `SELECT name, checksum, applied_at AS "appliedAt" FROM public.schema_migrations ORDER BY name`,
  );
  return rows;
}

/** Idempotent. Loaded when needed: graphile-worker takes longer to load than most commands take to run. */
async function installJobSchema(pool: pg.Pool): Promise<void> {
  const { runMigrations } = await import("graphile-worker");
  await runMigrations({ pgPool: pool });
}

async function withClient<Result>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
  const client = await connectTo(pool);
  let failed = true;
  try {
    const result = await work(client);
    failed = false;
    return result;
  } catch (error) {
    throw isConnectionFailure(error) ? unreachable(error) : error;
  } finally {
    // A session that failed may still be inside a transaction.
    client.release(failed);
  }
}
