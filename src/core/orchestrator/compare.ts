import type { DriverCall, ObservedRuntime, RuntimeDriver } from "../adapters/runtime/runtime-driver.ts";
import { TENANT_SECRETS, tenantSecretName, type Vault } from "../adapters/vault/vault.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { listTenants, type Tenant } from "../tenants/tenants.ts";
import { findOrphans, type Orphan } from "./orphans.ts";
import { goalOf, type Plan, planTenant } from "./plan.ts";
import { readTargets } from "./rollout/targets.ts";
import { computeSpec, type FleetSettings } from "./spec.ts";
import * as store from "./store.ts";

export type CompareContext = { db: Db; clock: Clock; runtimes: RuntimeDriver; vault: Vault; fleet: FleetSettings };

/** A tenant, what was observed of its runtime (undefined: there is none), and what follows from that. */
export type Compared = {
  tenant: Tenant;
  known: store.RuntimeRow | undefined;
  observed: ObservedRuntime | undefined;
  plan: Plan;
};

export type Comparison = { tenants: Compared[]; orphans: Orphan[]; runtimes: number };

/**
 * Compares one listing of everything that runs with what should. Of tenants whose status changed since it was begun nothing is said
 * to differ: their own jobs are at work. @throws whatever the driver's and the vault's `list` throw.
 */
export async function compareFleet(
  ctx: CompareContext,
  options: DriverCall & { withSecrets: boolean },
): Promise<Comparison> {
  const { withSecrets, ...call } = options;
  const begunAt = ctx.clock.now();
  const listed = (await ctx.runtimes.list(call)).filter(({ state }) => state !== "absent");
  const secrets = withSecrets ? new Set(await ctx.vault.list("tenant-")) : undefined;
  // After the runtimes: there is none whose tenant is not there yet.
  const all = await listTenants(ctx.db);
  const known = new Map((await store.listRuntimes(ctx.db)).map((row) => [row.tenantId, row]));
  const targets = await readTargets(
    ctx.db,
    all.map(({ id }) => id),
    ctx.fleet,
  );
  const observed = new Map(listed.map((runtime) => [runtime.tenantId, runtime]));
  const tenants = all.map((tenant) => {
    const seen = { tenant, known: known.get(tenant.id), observed: observed.get(tenant.id) };
    // Whoever sleeps is given what is missing when it wakes.
    const isAwake = goalOf(tenant) === "awake";
    const missingSecrets = isAwake && secrets !== undefined ? missingSecretsOf(tenant, secrets) : [];
    const spec = computeSpec(tenant, targets.get(tenant.id)?.settings ?? ctx.fleet);
    const plan = planTenant({ ...seen, spec, driver: ctx.runtimes.name, missingSecrets, now: ctx.clock.now() });
    return { ...seen, plan: tenant.statusChangedAt > begunAt ? { ...plan, drift: [] } : plan };
  });
  return { tenants, orphans: findOrphans(listed, all, begunAt), runtimes: listed.length };
}

function missingSecretsOf({ id, keyGeneration }: Tenant, names: ReadonlySet<string>): string[] {
  return TENANT_SECRETS.filter((secret) => !names.has(tenantSecretName(id, secret, keyGeneration)));
}
