import { randomBytes } from "node:crypto";
import pg from "pg";
import { createPool } from "./db.ts";
import { ConfigError } from "./errors.ts";
import { connectTo } from "./postgres-connection.ts";

const PREFIX = "openclaw_shadow_";
const INSUFFICIENT_PRIVILEGE = "42501";

export type ShadowOptions = {
  /** Connected to the server on which a shadow may be created. */
  pool: pg.Pool;
  /** Of the live database; the shadow is reached with the same host and login. */
  url: string;
  /** An empty database to use instead. */
  shadowUrl?: string | undefined;
};

/**
 * Calls `work` with a connection to an empty database, inside a transaction that is rolled back afterwards, and with a pool
 * for what can't be done inside it. A database made for this is dropped; one given by the operator is left empty.
 * @throws ConfigError when databases can't be created and none is given, or when the one given isn't empty.
 */
export async function withShadowDatabase<Result>(
  options: ShadowOptions,
  work: (shadow: pg.PoolClient, pool: pg.Pool) => Promise<Result>,
): Promise<Result> {
  if (options.shadowUrl !== undefined) return await useGivenDatabase(options.shadowUrl, options.pool, work);
  const name = await createShadow(options.pool);
  try {
    const url = new URL(options.url);
    url.pathname = `/${name}`;
    return await withPool(url.href, (pool) => inTransaction(pool, work));
  } finally {
    await dropDatabase(options.pool, name);
  }
}

async function useGivenDatabase<Result>(
  url: string,
  live: pg.Pool,
  work: (shadow: pg.PoolClient, pool: pg.Pool) => Promise<Result>,
): Promise<Result> {
  return await withPool(url, (pool) =>
    inTransaction(pool, async (client) => {
      await refuseUnfit(client, live);
      try {
        return await work(client, pool);
      } finally {
        await client.query("ROLLBACK");
        await client.query("DROP SCHEMA IF EXISTS graphile_worker CASCADE");
      }
    }),
  );
}

/** Two checks with the same shadow database wait for one another here: the lock lasts as long as the session. */
async function inTransaction<Result>(
  pool: pg.Pool,
  work: (shadow: pg.PoolClient, pool: pg.Pool) => Promise<Result>,
): Promise<Result> {
  const client = await connectTo(pool);
  try {
    await client.query("SELECT pg_advisory_lock(hashtext('openclaw shadow'))");
    await client.query("BEGIN");
    return await work(client, pool);
  } finally {
    client.release(true);
  }
}

async function withPool<Result>(url: string, work: (pool: pg.Pool) => Promise<Result>): Promise<Result> {
  // A connection that breaks while idle is replaced by the pool; one in use fails its query.
  const pool = createPool({ url, max: 4, applicationName: "openclaw-shadow", onIdleError: () => undefined });
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}

/** The name of a new, empty database. What earlier checks left behind by being killed is dropped first. */
async function createShadow(pool: pg.Pool): Promise<string> {
  const { rows } = await pool.query<{ now: string; leftovers: string[] }>(
    `SELECT extract(epoch FROM now())::bigint::text AS now,
            ARRAY(SELECT datname::text FROM pg_database
                   WHERE datname ~ ('^' || $1 || '[0-9]+_[0-9a-f]+$') AND pg_get_userbyid(datdba) = current_user
                     AND split_part(datname, '_', 3)::bigint < extract(epoch FROM now()) - 3600) AS leftovers`,
    [PREFIX],
  );
  for (const name of rows[0]?.leftovers ?? []) await dropDatabase(pool, name);
  const name = `${PREFIX}${rows[0]?.now}_${randomBytes(6).toString("hex")}`;
  try {
    await pool.query(`CREATE DATABASE ${name} TEMPLATE template0`);
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || error.code !== INSUFFICIENT_PRIVILEGE) throw error;
    throw new ConfigError(
      "shadow_database_missing",
      [
        "Comparing the live schema needs a throw-away database, and this role may not create one: " +
          "grant it CREATEDB, or set OPENCLAW_SHADOW_DATABASE_URL to an empty database of the same PostgreSQL version, " +
          "e.g. postgres://user@db.example/shadow.",
      ],
      { cause: error },
    );
  }
  return name;
}

async function dropDatabase(pool: pg.Pool, name: string): Promise<void> {
  await pool.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
}

/** Other versions describe the same schema in other words, and nothing of anybody's may be mistaken for a shadow. */
async function refuseUnfit(shadow: pg.PoolClient, live: pg.Pool): Promise<void> {
  const version = "SELECT current_setting('server_version_num')::int / 10000 AS major";
  const liveMajor = (await live.query<{ major: number }>(version)).rows[0]?.major;
  const shadowMajor = (await shadow.query<{ major: number }>(version)).rows[0]?.major;
  if (liveMajor !== shadowMajor) {
    throw new ConfigError("shadow_database_version", [
      `OPENCLAW_SHADOW_DATABASE_URL is a PostgreSQL ${shadowMajor}, the database a PostgreSQL ${liveMajor}: they must be the same version.`,
    ]);
  }
  const { rows } = await shadow.query<{ used: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace)
         OR EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'public'::regnamespace)
         OR EXISTS (SELECT FROM pg_namespace WHERE nspname NOT IN ('public', 'information_schema') AND nspname !~ '^pg_') AS used`,
  );
  if (rows[0]?.used) {
    throw new ConfigError("shadow_database_not_empty", [
      "OPENCLAW_SHADOW_DATABASE_URL is not empty: give it a database of its own, e.g. postgres://user@db.example/shadow.",
    ]);
  }
}
