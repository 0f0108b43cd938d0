import { randomUUID } from "node:crypto";
import { DeferredError, errorMessage, UpstreamError } from "../platform/errors.ts";
import { repeat } from "../platform/pause.ts";
import { enqueueConverge } from "../tenants/tenants.ts";
import { compareFleet, type CompareContext, type Comparison } from "./compare.ts";
import type { Drift } from "./plan.ts";
import { type DriftCounts, endTurn, keepTurn, takeTurn } from "./sweep-store.ts";
import type { OrchestratorContext } from "./converge.ts";

/** `busy`: another one is still at it. */
export type SweepResult = "done" | "deferred" | "failed" | "busy";

export type SweepContext = CompareContext &
  Pick<OrchestratorContext, "log"> & { observe?: (result: SweepResult, drift: readonly Drift[]) => void };

const TURN_MS = 60_000;
const RENEW_MS = 10_000;
/** The names of all secrets of 500 tenants are 80 pages of a Key Vault. */
const SECRETS_EVERY = 10;

/**
 * Compares one listing of everything that runs with what should, and enqueues a job for each tenant that differs. One sweep at a
 * time over all daemons, however long it takes (F84, F89). A platform that can't be asked is recorded, and the next sweep tries again.
 * @returns how many differ; undefined when it could not be told.
 */
export async function sweepRuntimes(ctx: SweepContext, signal?: AbortSignal): Promise<number | undefined> {
  const lease = randomUUID();
  const begun = await takeTurn(ctx.db, lease, TURN_MS);
  if (begun === undefined) {
    ctx.observe?.("busy", []);
    return undefined;
  }
  const turn = holdTurn(ctx, lease, signal);
  try {
    const withSecrets = begun % SECRETS_EVERY === 1;
    const found = await compareFleet(ctx, { signal: turn.signal, urgency: "sweep", withSecrets });
    const differing = await mend(ctx, found, turn.signal);
    const drift = found.tenants.flatMap(({ plan }) => plan.drift);
    await endTurn(ctx.db, lease, { runtimes: found.runtimes, drift: countKinds(drift), orphans: found.orphans });
    ctx.observe?.("done", drift);
    return differing;
  } catch (error) {
    await endTurn(ctx.db, lease, { problem: errorMessage(error) });
    ctx.observe?.(error instanceof DeferredError ? "deferred" : "failed", []);
    if (!(error instanceof UpstreamError)) throw error;
    ctx.log.warn({ error }, "runtimes could not be compared, the next sweep tries again");
    return undefined;
  } finally {
    await turn.end();
  }
}

/** A job that waits out its backoff is not hurried. */
async function mend(ctx: SweepContext, { tenants }: Comparison, signal: AbortSignal): Promise<number> {
  const differing = tenants.filter(({ plan }) => plan.action !== "nothing");
  for (const { tenant } of differing) {
    signal.throwIfAborted();
    await enqueueConverge(ctx.db, tenant.id, { keepsTime: true });
  }
  return differing.length;
}

function countKinds(drift: readonly Drift[]): DriftCounts {
  const counts: DriftCounts = {};
  for (const { kind } of drift) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

/** Keeps the turn while the work lasts; `signal` aborts with the caller's, and when the turn is lost. */
function holdTurn(ctx: SweepContext, lease: string, signal: AbortSignal | undefined) {
  const ended = new AbortController();
  const lost = new AbortController();
  let renewedAt = performance.now();
  const loop = repeat(RENEW_MS, ended.signal, async () => {
    const at = performance.now();
    try {
      if (await keepTurn(ctx.db, lease, TURN_MS)) renewedAt = at;
      else lost.abort(new Error("the sweep's turn went to another daemon"));
    } catch (error) {
      ctx.log.warn({ error }, "the sweep's turn could not be extended, will be tried again");
      if (at - renewedAt > TURN_MS) lost.abort(new Error("the sweep's turn ended while the database was away"));
    }
  });
  return {
    signal: signal === undefined ? lost.signal : AbortSignal.any([signal, lost.signal]),
    async end() {
      ended.abort();
      await loop;
    },
  };
}
