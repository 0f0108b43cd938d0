import { createPayLinks } from "../core/billing/billing.ts";
import type { Context } from "../core/context.ts";
import { noteEnvironment, readFleetSettings } from "../core/orchestrator/orchestrator.ts";
import { createConnectLinks } from "../core/router/connection-news.ts";
import { startRouter } from "../core/router/router.ts";
import { lastActivity } from "./activity.ts";
import { startJobs } from "./jobs.ts";
import { type Daemon, openPool } from "./parts.ts";

/** A connection that has gone dead unnoticed costs so much: within a lease, */
const LEASE_QUERY_MS = 3_000;
/** and longer than reading a large backlog takes. */
const ROUTER_QUERY_MS = 20_000;

/** Starts what works on updates and jobs. */
export async function startWorker(daemon: Daemon): Promise<void> {
  const { id, ctx, metrics, parts } = daemon;
  await compareEnvironment(ctx);
  const { tenancy, router } = ctx.config;
  const readFleet = () => readFleetSettings(ctx);
  const { priceBasic: basic, pricePlus: plus } = ctx.config.stripe;
  const { signupUrl } = tenancy;
  const payLinks = createPayLinks({ ...ctx, prices: { basic, plus }, signupUrl, publicUrl: ctx.config.http.publicUrl });
  parts.router = await startRouter({
    ...ctx,
    payLinks,
    pool: openPool(daemon, 12, ROUTER_QUERY_MS),
    leasePool: openPool(daemon, 1, LEASE_QUERY_MS),
    daemonId: id,
    observer: metrics.router,
    signupUrl,
    rateLimitPerMinute: router.rateLimitPerMinute,
  });
  parts.jobs = startJobs(
    {
      ...ctx,
      readFleet,
      payLinks,
      connectLinks: createConnectLinks({ ...ctx, publicUrl: ctx.config.http.publicUrl }),
      lastActivity,
      retentionDays: tenancy.retentionDays,
    },
    openPool(daemon, 16),
    metrics,
  );
}

/** What the environment says of runtimes counts until an operator says something; from then on a daemon that was told otherwise says so. */
async function compareEnvironment(ctx: Context): Promise<void> {
  const { image, modelsByTier, isNamed } = ctx.config.runtime;
  const inForce = await noteEnvironment({ ...ctx, environment: { image, modelsByTier } });
  if (inForce === undefined || !isNamed) return;
  ctx.log.warn(
    { image, modelsByTier, inForce: { release: inForce.id, image: inForce.image, modelsByTier: inForce.modelsByTier } },
    "OPENCLAW_RUNTIME_IMAGE or OPENCLAW_MODEL_* name something else than the release that counts; see: openclaw fleet settings show",
  );
}
