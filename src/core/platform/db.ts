import { CamelCasePlugin, Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import type { DB } from "./schema.ts";

/** The database, or a transaction in it: store functions take either. */
export type Db = Kysely<DB>;

const INT8_OID = 20;

/** int8 as a number: every int8 of ours (Telegram ids, sequences, micro-USD) is below 2^53, and one that isn't is a bug. */
function parseInt8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`int8 beyond a safe integer: ${text}`);
  return value;
}

const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text" | "binary") =>
    oid === INT8_OID ? parseInt8 : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
};

export type PoolOptions = {
  url: string;
  max: number;
  applicationName: string;
  /** Called when an idle connection breaks; the pool replaces it by itself. */
  onIdleError: (error: Error) => void;
  /** After so long a query fails, and its connection is given up: for what must go on when one has gone dead unnoticed. */
  queryTimeoutMs?: number;
};

/** A pool of connections. It opens none before the first query. */
export function createPool(options: PoolOptions): pg.Pool {
  const { url, max, applicationName, onIdleError, queryTimeoutMs } = options;
  const pool = new pg.Pool({
    connectionString: url,
    max,
    application_name: applicationName,
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    ...(queryTimeoutMs === undefined ? {} : { query_timeout: queryTimeoutMs }),
    types,
  });
  pool.on("error", onIdleError);
  // A connection that breaks while it is in use fails its query; without a listener it would end the process, too.
  pool.on("connect", (client) => client.on("error", () => undefined));
  return pool;
}

/** Kysely over `pool`; columns are camelCase in code and snake_case in SQL, keys inside JSON stay as they are. */
export function createDb(pool: pg.Pool): Db {
  return new Kysely<DB>({
    dialect: new PostgresDialect({ pool }),
    plugins: [new CamelCasePlugin({ maintainNestedObjectKeys: true })],
  });
}

/** Whether PostgreSQL refused a row because another has the same key; `constraint` names which. */
export function isUniqueViolation(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && error.code === "23505";
}

/** Whether PostgreSQL refused a row because what it refers to is not there; `constraint` names which. */
export function isForeignKeyViolation(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && error.code === "23503";
}

/** Whether PostgreSQL refuses what a statement says, and would again: classes 22 (data) and 23 (constraints). */
export function isDataRefused(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^2[23]/.test(error.code ?? "");
}

/**
 * For statements prepared by name, which Kysely has none of. `work` gets a connection inside a transaction that commits when it
 * resolves; `first` is a statement without parameters that is sent with its begin, in one round trip.
 */
export async function withTransaction<Result>(
  pool: pg.Pool,
  first: string,
  work: (client: pg.PoolClient) => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect();
  try {
    await client.query(`BEGIN; ${first}`);
    const result = await work(client);
    await client.query("COMMIT");
    client.release();
    return result;
  } catch (error) {
    // Whatever state it is in: closing it rolls back.
    client.release(true);
    throw error;
  }
}
