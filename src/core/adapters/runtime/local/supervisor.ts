import type { TenantId } from "../../../platform/ids.ts";

/** What a look at one runtime showed. `process` names the process last started, also when it is gone. */
export type Sighting = { process: string | undefined; alive: boolean; failures: number };

export type Supervision = {
  /** Runtimes that are meant to run. */
  look(): Promise<ReadonlyMap<TenantId, Sighting>>;
  /** Starts it unless somebody else did since `seen`. */
  restart(tenantId: TenantId, seen: Sighting): Promise<void>;
  /** Called once per process, after it has lived for a minute; forgives earlier failures if it is healthy. */
  settle(tenantId: TenantId, seen: Sighting): Promise<void>;
  onError(error: unknown, tenantId: TenantId | undefined): void;
};

const POLL_MS = 1_000;
const SETTLED_MS = 60_000;
const LONGEST_BACKOFF_MS = 60_000;

/** How long a runtime stays down after its n-th failure in a row. */
export function backoffMs(failures: number): number {
  return Math.min(1_000 * 2 ** Math.min(failures, 10), LONGEST_BACKOFF_MS);
}

/**
 * Looks every second for runtimes that are meant to run and don't. Several daemons may do so at once: each start happens under the
 * tenant's lock and only if the dead process is still the one on record. Its timer keeps no process alive.
 */
export function startSupervisor(supervision: Supervision): { stop(): Promise<void> } {
  const watches = new Map<TenantId, { process: string | undefined; alive: boolean; since: number; settled: boolean }>();
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let round: Promise<void> = Promise.resolve();

  function schedule(): void {
    if (stopped) return;
    timer = setTimeout(() => {
      round = tick()
        .catch((error: unknown) => supervision.onError(error, undefined))
        .finally(schedule);
    }, POLL_MS).unref();
  }

  async function tick(): Promise<void> {
    const sightings = await supervision.look();
    for (const tenantId of watches.keys()) if (!sightings.has(tenantId)) watches.delete(tenantId);
    await Promise.all([...sightings].map(([tenantId, seen]) => attend(tenantId, seen)));
  }

  async function attend(tenantId: TenantId, seen: Sighting): Promise<void> {
    const now = performance.now();
    let watch = watches.get(tenantId);
    if (watch === undefined || watch.process !== seen.process || watch.alive !== seen.alive) {
      watch = { process: seen.process, alive: seen.alive, since: now, settled: false };
      watches.set(tenantId, watch);
    }
    const lasted = now - watch.since;
    try {
      if (!seen.alive && lasted >= backoffMs(seen.failures) - POLL_MS / 2) {
        watch.since = now;
        await supervision.restart(tenantId, seen);
      } else if (seen.alive && seen.failures > 0 && !watch.settled && lasted >= SETTLED_MS) {
        watch.settled = true;
        await supervision.settle(tenantId, seen);
      }
    } catch (error) {
      // One tenant's trouble must not keep the others unattended; it is tried again after its backoff.
      supervision.onError(error, tenantId);
    }
  }

  schedule();
  return {
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await round;
    },
  };
}
