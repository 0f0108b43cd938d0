import { randomBytes } from "node:crypto";
import type pg from "pg";
import { createDb, createPool, type Db } from "../platform/db.ts";

export type TestDatabase = AsyncDisposable & { url: string; pool: pg.Pool; db: Db };

/** A migrated database of the caller's own; disposing of it drops it, whoever is still connected. */
export async function createTestDatabase(): Promise<TestDatabase> {
  return await createFrom(readVariable("OPENCLAW_TEST_TEMPLATE"));
}

/** A database of the caller's own without anything in it. */
export async function createEmptyTestDatabase(): Promise<TestDatabase> {
  return await createFrom("template0");
}

async function createFrom(template: string): Promise<TestDatabase> {
  const adminUrl = readVariable("OPENCLAW_TEST_DATABASE_URL");
  const name = `test_${randomBytes(8).toString("hex")}`;
  await runOnce(adminUrl, `CREATE DATABASE ${name} TEMPLATE ${template} STRATEGY file_copy`);
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  const pool = openPool(url.href, 8);
  return {
    url: url.href,
    pool,
    db: createDb(pool),
    async [Symbol.asyncDispose]() {
      if (!pool.ending) await pool.end();
      await runOnce(adminUrl, `DROP DATABASE ${name} WITH (FORCE)`);
    },
  };
}

async function runOnce(url: string, sql: string): Promise<void> {
  const pool = openPool(url, 1);
  try {
    await pool.query(sql);
  } finally {
    await pool.end();
  }
}

function openPool(url: string, max: number): pg.Pool {
  // Tests break connections on purpose; what that does to the code under test is what they look at.
  return createPool({ url, max, applicationName: "openclaw-test", onIdleError: () => undefined });
}

function readVariable(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: integration tests run by \`npm test -- <file>\`.`);
  return value;
}
