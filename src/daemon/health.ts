import type { FastifyInstance } from "fastify";
import type pg from "pg";
import type { Log } from "../core/platform/log.ts";
import { isLedgerCurrent } from "../core/platform/migrations.ts";
import { readVersion } from "../core/platform/version.ts";
import { errorBody } from "./http.ts";

type Deps = { pool: pg.Pool; log: Log; migrationsFolder: string };

/** `/healthz`: the process lives, and which build it is. `/readyz`: PostgreSQL answers and the migrations are current. */
export function registerHealth(app: FastifyInstance, deps: Deps): void {
  const self = readVersion();
  app.get("/healthz", async () => ({ status: "ok", ...self }));
  app.get("/readyz", async (request, reply) => {
    const reason = await unreadiness(deps);
    if (reason === undefined) return { status: "ready" };
    return reply.code(503).send(errorBody("not_ready", reason, request.id));
  });
}

async function unreadiness({ pool, log, migrationsFolder }: Deps): Promise<string | undefined> {
  try {
    if (await isLedgerCurrent(pool, migrationsFolder)) return undefined;
    return "The database is not migrated to this version; run: openclaw migrate";
  } catch (error) {
    // Its words name hosts and users: for the log only.
    log.warn({ error }, "not ready: the database does not answer");
    return "The database does not answer.";
  }
}
