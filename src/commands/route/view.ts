import type { ShardOwner } from "../../core/router/shard-owners.ts";
import { describeVerdict, type Simulation } from "../../core/router/route-simulation.ts";

const UNITS: [name: string, ms: number][] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
];

/** How long ago something was, in its two greatest units, such as `2h 5m`. */
export function formatAge(at: Date, now: Date): string {
  let rest = Math.max(0, now.getTime() - at.getTime());
  const first = Math.max(
    0,
    UNITS.findIndex(([, ms]) => rest >= ms),
  );
  if (rest < 1_000) return "0s";
  const parts = UNITS.slice(first, first + 2).map(([name, ms]) => {
    const count = Math.floor(rest / ms);
    rest -= count * ms;
    return count === 0 ? "" : `${count}${name}`;
  });
  return parts.filter((part) => part !== "").join(" ");
}

/** A shard's owner in a cell. */
export function formatOwner(owner: ShardOwner | null): string {
  if (owner === null) return "nobody";
  const where = owner.host === null ? `${owner.daemonId} (gone)` : `${owner.host}:${owner.pid}`;
  return owner.live ? where : `${where} (lease ended)`;
}

/** The documented JSON form of a simulation: the facts, where they lead, the verdict and why. */
export function simulationDocument({ update, lane, route, verdict }: Simulation) {
  const { tenant, entitled, awaitingPayment, runtime } = route ?? {};
  return {
    // The token of a link is a secret while it lasts.
    update: { ...update, startPayload: update.startPayload === undefined ? undefined : "…" },
    lane,
    tenant: tenant === undefined ? null : tenantFacts(tenant),
    entitled: entitled ?? null,
    awaitingPayment: awaitingPayment ?? null,
    runtime: runtime === undefined ? null : runtimeFacts(runtime),
    verdict: verdict.kind === "link" ? { kind: verdict.kind } : verdict,
    explanation: describeVerdict(verdict),
  };
}

type Known = NonNullable<Simulation["route"]>;

export function tenantFacts({ id, slug, status, suspendedBy, statusReason, telegramUserId }: Known["tenant"]) {
  return { id, slug, status, suspendedBy, statusReason, telegramUserId };
}

export function runtimeFacts(runtime: NonNullable<Known["runtime"]>) {
  const { driver, state, address, allowedUserId, reason, secretRefusedAt, healthyAt, observedAt } = runtime;
  return { driver, state, address, allowedUserId, reason, secretRefusedAt, healthyAt, observedAt };
}
