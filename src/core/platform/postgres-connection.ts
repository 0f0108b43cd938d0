import pg from "pg";
import { errorMessage, UpstreamError } from "./errors.ts";

/** SQLSTATE classes of a server that refuses or ends connections: connection, resources, shut down, login. */
const CONNECTION_STATES = /^(08|53|57P|28)/;

/** A connection of the pool. @throws UpstreamError when there is none to be had. */
export async function connectTo(pool: pg.Pool): Promise<pg.PoolClient> {
  try {
    return await pool.connect();
  } catch (error) {
    throw unreachable(error);
  }
}

/** Whether a query failed because the connection did, and not because of what it asked. */
export function isConnectionFailure(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return CONNECTION_STATES.test(error.code ?? "");
  return (
    error instanceof Error && /^(Connection terminated|Client has encountered a connection error)/.test(error.message)
  );
}

/** Says why PostgreSQL can't be used, without the URL, which holds a password. */
export function unreachable(error: unknown): UpstreamError {
  // Of a name with several addresses, each has failed, and the outer error says nothing.
  const cause: unknown = error instanceof AggregateError ? error.errors[0] : error;
  const message = `PostgreSQL can't be used: ${errorMessage(cause)}. Check that it runs and that DATABASE_URL is right.`;
  return new UpstreamError("database_unreachable", message, { service: "postgres", retryable: true, cause: error });
}
