import { randomBytes } from "node:crypto";
import { accessSync, chmodSync, constants, mkdtempSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createPool } from "../src/core/platform/db.ts";
import { startEmbeddedPostgres, stopEmbeddedPostgres } from "../src/core/platform/embedded-postgres.ts";
import { migrate } from "../src/core/platform/migrations.ts";
import { packageRoot } from "../src/core/platform/package-root.ts";

export type TestCluster = {
  /** For creating and dropping databases. */
  adminUrl: string;
  /** A migrated database; nobody may be connected to it while it is cloned. */
  template: string;
  templateUrl: string;
};

const PREFIX = "openclaw-test-";

/**
 * Calls `work` with a throw-away PostgreSQL, in memory where possible, and removes it afterwards. With
 * OPENCLAW_TEST_DATABASE_URL set, that server is used instead, and only the template is removed.
 */
export async function withTestCluster<Result>(work: (cluster: TestCluster) => Promise<Result>): Promise<Result> {
  const given = process.env["OPENCLAW_TEST_DATABASE_URL"];
  if (given !== undefined) return await withTemplate(given, work);
  const parent = memoryFolder();
  await removeAbandoned(parent);
  const dataDir = mkdtempSync(path.join(parent, `${PREFIX}${process.pid}-`));
  // PostgreSQL started by root runs as somebody else.
  chmodSync(dataDir, 0o711);
  try {
    const { url } = await startEmbeddedPostgres({ dataDir, fsync: false });
    return await withTemplate(url, work);
  } finally {
    await remove(dataDir);
  }
}

const ADMIN_SHUTDOWN = "57P01";

async function withTemplate<Result>(
  adminUrl: string,
  work: (cluster: TestCluster) => Promise<Result>,
): Promise<Result> {
  const template = `openclaw_template_${randomBytes(4).toString("hex")}`;
  const templateUrl = Object.assign(new URL(adminUrl), { pathname: `/${template}` }).href;
  await withPool(adminUrl, (pool) => pool.query(`CREATE DATABASE ${template} TEMPLATE template0`));
  try {
    await withPool(templateUrl, (pool) => migrate(pool, path.join(packageRoot(), "migrations")));
    return await work({ adminUrl, template, templateUrl });
  } finally {
    await withPool(adminUrl, (pool) => pool.query(`DROP DATABASE ${template} WITH (FORCE)`));
  }
}

async function withPool<Result>(
  url: string,
  work: (pool: ReturnType<typeof createPool>) => Promise<Result>,
): Promise<Result> {
  const onIdleError = (error: Error) => {
    // A connection that is on its way out when its database is dropped by force.
    if (!("code" in error) || error.code !== ADMIN_SHUTDOWN) console.error(error);
  };
  const pool = createPool({ url, max: 2, applicationName: "openclaw-test-run", onIdleError });
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}

/** What runs that were killed left behind: on /dev/shm, it takes memory. */
async function removeAbandoned(parent: string): Promise<void> {
  for (const name of readdirSync(parent)) {
    const pid = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : Number.NaN;
    if (pid > 0 && isGone(pid)) await remove(path.join(parent, name));
  }
}

async function remove(dataDir: string): Promise<void> {
  await stopEmbeddedPostgres({ dataDir });
  await rm(dataDir, { recursive: true, force: true });
}

function isGone(pid: number): boolean {
  try {
    return !process.kill(pid, 0);
  } catch (error) {
    // EPERM: another user's run.
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
}

function memoryFolder(): string {
  try {
    accessSync("/dev/shm", constants.W_OK);
    return "/dev/shm";
  } catch {
    // Not every system has one.
    return tmpdir();
  }
}
