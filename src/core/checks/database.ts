import path from "node:path";
import type { Store } from "../context.ts";
import { type Check, type CheckResult, failed, ok, warning } from "../platform/check.ts";
import { migrationStatus } from "../platform/migrations.ts";
import { packageRoot } from "../platform/package-root.ts";
import { connectTo } from "../platform/postgres-connection.ts";

/** An embedded database may have to be started first. */
const TIMEOUT_MS = 60_000;
const OLDEST_VERSION = 15;
const SKEW_WARNED_MS = 2_000;
const SKEW_FAILED_MS = 30_000;

export function databaseChecks(openStore: () => Promise<Store>): Check[] {
  return [
    { name: "database", timeoutMs: TIMEOUT_MS, run: async () => checkVersion(await openStore()) },
    { name: "migrations", timeoutMs: TIMEOUT_MS, run: async () => checkMigrations(await openStore()) },
    { name: "clock", timeoutMs: TIMEOUT_MS, run: async () => checkClock(await openStore()) },
  ];
}

async function checkVersion(store: Store): Promise<CheckResult> {
  const [row] = await ask<{ version: string; number: number }>(
    store,
    "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number",
  );
  const { version, number } = row ?? { version: "unknown", number: 0 };
  if (number >= OLDEST_VERSION * 10_000) return ok(`PostgreSQL ${version}`);
  return failed(`PostgreSQL ${version} is too old`, `Use PostgreSQL ${OLDEST_VERSION} or newer.`);
}

async function checkMigrations({ pool }: Store): Promise<CheckResult> {
  const all = await migrationStatus(pool, path.join(packageRoot(), "migrations"));
  const pending = all.filter(({ state }) => state === "pending").length;
  if (pending > 0) return failed(`${pending} of ${all.length} are not applied`, "Run: openclaw migrate");
  const odd = all.filter(({ state }) => state !== "applied").map(({ name }) => name);
  if (odd.length === 0) return ok(`${all.length} applied`);
  return failed(`edited, or without their file: ${odd.join(", ")}`, "See what differs: openclaw migrate --check");
}

/** Tokens, links and Stripe's signatures are judged by our clock, leases by the database's. */
async function checkClock(store: Store): Promise<CheckResult> {
  const before = store.clock.now().getTime();
  const [row] = await ask<{ ms: number }>(store, "SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS ms");
  const after = store.clock.now().getTime();
  const theirs = row?.ms ?? before;
  // Somewhere in between it was asked.
  const skewMs = Math.round(Math.max(before - theirs, theirs - after, 0));
  const words = `${(skewMs / 1_000).toFixed(1)} s between this machine and the database`;
  if (skewMs <= SKEW_WARNED_MS) return ok(words);
  const remedy = "Have both set their clocks by NTP, e.g. with chrony or systemd-timesyncd.";
  return skewMs <= SKEW_FAILED_MS ? warning(words, remedy) : failed(words, remedy);
}

async function ask<Row extends object>({ pool }: Store, sql: string): Promise<Row[]> {
  const client = await connectTo(pool);
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    client.release();
  }
}
