import { setTimeout as delay } from "node:timers/promises";
import { type Convergence, readConvergence } from "../../core/orchestrator/orchestrator.ts";
import type { Db } from "../../core/platform/db.ts";
import type { TenantId } from "../../core/platform/ids.ts";

const POLL_MS = 500;

/** Waits until the job of each tenant is done or has failed, `timeoutMs` at most; what goes on then goes on. */
export async function waitForAll(
  db: Db,
  before: ReadonlyMap<TenantId, number>,
  timeoutMs: number,
): Promise<Map<TenantId, Convergence>> {
  const deadline = performance.now() + timeoutMs;
  const outcomes = new Map<TenantId, Convergence>();
  for (;;) {
    const open = new Map([...before].filter(([id]) => isOpen(outcomes.get(id))));
    for (const [id, convergence] of await readConvergence(db, open)) outcomes.set(id, convergence);
    const isOver = ![...outcomes.values()].some(isOpen);
    if (isOver || performance.now() >= deadline) return outcomes;
    await delay(POLL_MS);
  }
}

function isOpen(convergence: Convergence | undefined): boolean {
  return convergence === undefined || convergence.result === "under-way";
}
