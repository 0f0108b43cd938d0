import { request } from "undici";
import { addMs, type Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { createSlots } from "../platform/slots.ts";
import type { Tenant } from "../tenants/tenants.ts";
import { BOOT_MS, type Goal, goalOf } from "./plan.ts";
import { listRuntimes, type RuntimeRow } from "./store.ts";

/** `asleep` on purpose is as good as healthy (F87), and `starting` may still become so. */
export type Health = "healthy" | "asleep" | "starting" | "unhealthy";

export type TenantHealth = { health: Health; since: Date; why: string | null };

/** How a tenant's runtime does, as last observed; undefined where it isn't meant to run. */
export function healthOf(tenant: Tenant, known: RuntimeRow | undefined, now: Date): TenantHealth | undefined {
  const goal: Goal = goalOf(tenant);
  if (goal === "asleep") return { health: "asleep", since: tenant.hibernatedAt ?? now, why: null };
  if (goal !== "awake") return undefined;
  const isProvisioning = tenant.status === "provisioning";
  const why = known?.reason ?? null;
  if (known === undefined || known.state === "absent")
    return {
      health: isProvisioning ? "starting" : "unhealthy",
      since: tenant.statusChangedAt,
      why: why ?? "there is none",
    };
  if (known.state === "running") return { health: "healthy", since: known.healthyAt ?? known.stateSince, why };
  const isBooting = known.state === "starting" && addMs(known.stateSince, BOOT_MS) > now;
  const health = isProvisioning || isBooting ? "starting" : "unhealthy";
  return { health, since: known.stateSince, why: why ?? `it is ${known.state}` };
}

const PROBE_MS = 5_000;

/** Why the webhook listener at `address` isn't healthy at this moment; undefined when it is (F47). */
export async function probeHealth(address: string): Promise<string | undefined> {
  try {
    const { statusCode, body } = await request(`${address}/healthz`, {
      signal: AbortSignal.timeout(PROBE_MS),
      reset: true,
    });
    const text = await body.text();
    return statusCode === 200 && text.trim() === "ok" ? undefined : `its health check answers ${statusCode}`;
  } catch {
    // Whatever it was, refused, cut off or too late: from here, nothing answers there.
    return `nothing answers at ${address}`;
  }
}

const PROBES_AT_ONCE = 32;

/**
 * How the runtimes of those of `tenants` do that are meant to run: as last observed, or by asking those that are awake now.
 * Sleeping ones are never asked.
 */
export async function checkHealth(
  ctx: { db: Db; clock: Clock },
  tenants: readonly Tenant[],
  { probe }: { probe: boolean },
): Promise<(TenantHealth & { tenant: Tenant })[]> {
  const known = new Map((await listRuntimes(ctx.db)).map((row) => [row.tenantId, row]));
  const now = ctx.clock.now();
  const found = tenants.flatMap((tenant) => {
    const health = healthOf(tenant, known.get(tenant.id), now);
    return health === undefined ? [] : [{ tenant, ...health }];
  });
  if (!probe) return found;
  const slots = createSlots(PROBES_AT_ONCE);
  return Promise.all(
    found.map(async (one) => {
      const address = known.get(one.tenant.id)?.address;
      if (one.health === "asleep" || address == null) return one;
      const problem = await slots.use(() => probeHealth(address));
      return { ...one, ...probed(one, problem, now) };
    }),
  );
}

/** What a probe tells is so from now on, unless it was so before. */
function probed({ health, since }: TenantHealth, problem: string | undefined, now: Date): TenantHealth {
  if (problem === undefined) return { health: "healthy", since: health === "healthy" ? since : now, why: null };
  if (health === "starting") return { health, since, why: problem };
  return { health: "unhealthy", since: health === "unhealthy" ? since : now, why: problem };
}
