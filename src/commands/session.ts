import pg from "pg";
import { type Context, openFleet, openStore, type Store } from "../core/context.ts";
import { type Config, type Environment, loadConfig, readEnvironment, type Secrets } from "../core/platform/config.ts";
import { reachableDataDir } from "../core/platform/data-dir.ts";
import { ConfigError, UpstreamError } from "../core/platform/errors.ts";
import type { Log, LogLevel } from "../core/platform/log.ts";

/** The configuration of the environment and `.env`, with its data at a place where all that work with it can be. */
export async function loadSettings(
  environment: Environment = readEnvironment(),
): Promise<{ config: Config; secrets: Secrets }> {
  const { config, secrets } = loadConfig(environment);
  return { config: { ...config, dataDir: await reachableDataDir(config.dataDir) }, secrets };
}

/** Runs a command's work with the database open, and closes it whatever happens. */
export async function withStore<Result>(work: (store: Store) => Promise<Result>): Promise<Result> {
  const store = await openSession(await loadSettings());
  try {
    return await work(store);
  } catch (error) {
    throw explainDatabaseError(error);
  } finally {
    await store.close();
  }
}

/** For whoever closes it again. A command speaks for itself; what libraries have to say matters only when something is wrong. */
export async function openSession({ config, secrets }: { config: Config; secrets: Secrets }): Promise<Store> {
  return openStore(config, secrets, logOnDemand(config.logLevel === "info" ? "warn" : config.logLevel));
}

/** The same with secrets and runtimes. */
export async function withFleet<Result>(
  work: (fleet: Store & Pick<Context, "vault" | "runtimes">) => Promise<Result>,
): Promise<Result> {
  return withStore(async (store) => {
    const fleet = await openFleet(store);
    try {
      return await work(fleet);
    } finally {
      await fleet.runtimes.close();
    }
  });
}

/** A log that is loaded with its first line: hardly any command writes one, and loading takes a tenth of its time. */
function logOnDemand(level: LogLevel): Log {
  const write = (at: LogLevel) => (fields: object, message: string) =>
    void import("../core/platform/log.ts").then(({ createLog }) => createLog(level)[at](fields, message));
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}

const UNDEFINED_TABLE = "42P01";
const UNDEFINED_COLUMN = "42703";
const UNDEFINED_FUNCTION = "42883";
const INVALID_SCHEMA = "3F000";

/** What a failed query means to somebody at a terminal; anything else is passed on as it is. */
export function explainDatabaseError(error: unknown): unknown {
  if (error instanceof pg.DatabaseError) {
    if ([UNDEFINED_TABLE, UNDEFINED_COLUMN, UNDEFINED_FUNCTION, INVALID_SCHEMA].includes(error.code ?? "")) {
      return new ConfigError("not_migrated", ["the database is not migrated to this version; run: openclaw migrate"], {
        cause: error,
      });
    }
    // Classes 08 (connection), 28 (authorization), 3D (no such database), 53 (resources), 57 (shutdown, starting up).
    if (/^(08|28|3D|53|57)/.test(error.code ?? "")) return unreachable(error);
    return error;
  }
  if (error instanceof Error && "code" in error && /^E(CONN|NOTFOUND|HOST|NET|TIMEDOUT|AI_)/.test(String(error.code))) {
    return unreachable(error);
  }
  if (
    error instanceof Error &&
    /^(Connection terminated|timeout exceeded when trying to connect)/.test(error.message)
  ) {
    return unreachable(error);
  }
  return error;
}

function unreachable(cause: Error): UpstreamError {
  // A refused connection to a name with several addresses has an empty message and the reasons inside.
  const reason =
    cause instanceof AggregateError ? cause.errors.map((inner: Error) => inner.message).join("; ") : cause.message;
  return new UpstreamError(
    "database_unreachable",
    `the database can't be used: ${reason}. Check DATABASE_URL and the server.`,
    {
      service: "postgres",
      retryable: true,
      cause,
    },
  );
}
