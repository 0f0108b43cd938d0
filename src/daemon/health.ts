import type { FastifyInstance } from "fastify";
import type pg from "pg";
import { errorMessage } from "../core/platform/errors.ts";
import { isLedgerCurrent } from "../core/platform/migrations.ts";
import { readVersion } from "../core/platform/version.ts";
import { errorBody } from "./http.ts";

/** `/healthz`: the process lives, and which build it is. `/readyz`: PostgreSQL answers and the migrations are current. */
export function registerHealth(app: FastifyInstance, deps: { pool: pg.Pool; migrationsFolder: string }): void {
  const self = readVersion();
  app.get("/healthz", async () => ({ status: "ok", ...self }));
  app.get("/readyz", async (request, reply) => {
    const reason = await unreadiness(deps);
    if (reason === undefined) return { status: "ready" };
    return reply.code(503).send(errorBody("not_ready", reason, request.id));
  });
}

async function unreadiness({
  pool,
  migrationsFolder,
}: {
  pool: pg.Pool;
  migrationsFolder: string;
}): Promise<string | undefined> {
  try {
    return (await isLedgerCurrent(pool, migrationsFolder))
      ? undefined
      : "The database is not migrated to this version; run: openclaw migrate";
  } catch (error) {
    return `The database does not answer: ${errorMessage(error)}`;
  }
}
