import type { FastifyInstance } from "fastify";
import type pg from "pg";
import type { Meter } from "../core/billing/billing.ts";
import type { Context } from "../core/context.ts";
import { createPool } from "../core/platform/db.ts";
import type { DaemonId } from "../core/platform/ids.ts";
import type { CallLog } from "../core/router/activity.ts";
import type { Router } from "../core/router/router.ts";
import type { JobRunner } from "./jobs.ts";
import type { Metrics } from "./metrics.ts";

export const ROLES = ["web", "gateway", "worker"] as const;
export type Role = (typeof ROLES)[number];

/** What a daemon has opened so far, by role. */
export type Parts = {
  pools: pg.Pool[];
  web?: FastifyInstance;
  gateway?: FastifyInstance;
  meter?: Meter;
  calls?: CallLog;
  router?: Router;
  jobs?: JobRunner;
  isSignedOn: boolean;
};

export type Daemon = {
  id: DaemonId;
  ctx: Context;
  roles: readonly Role[];
  metrics: Metrics;
  migrationsFolder: string;
  /** Where runtimes reach this daemon's gateways; undefined without that role. */
  gatewayUrl: string | undefined;
  parts: Parts;
};

/** A pool apart, so that what uses it can't be starved by the rest. */
export function openPool({ ctx, parts }: Daemon, max: number, queryTimeoutMs?: number): pg.Pool {
  const pool = createPool({
    url: ctx.databaseUrl,
    max,
    applicationName: "openclaw-daemon",
    onIdleError: (error) => ctx.log.warn({ error }, "database connection lost"),
    ...(queryTimeoutMs === undefined ? {} : { queryTimeoutMs }),
  });
  parts.pools.push(pool);
  return pool;
}
