import type pg from "pg";
import { withAdvisoryLock } from "../../../platform/advisory-lock.ts";
import { DeferredError } from "../../../platform/errors.ts";
import type { TenantId } from "../../../platform/ids.ts";
import type { DriverCall } from "../runtime-driver.ts";
import type { JobTurn } from "./state-share.ts";
import type { Errand } from "./steps.ts";

const LOCK_PATIENCE_MS = 10_000;
const TURN_PATIENCE_MS = 60_000;

export type LockPools = {
  /** For locks alone: one connection for each runtime that is being worked on, */
  lockPool: pg.Pool;
  /** and for each stamp whose job is, which those wait for. */
  turnPool: pg.Pool;
};

/** One process at a time works on a runtime, and starts the job of a stamp. @throws DeferredError while others do. */
export function createLocks({ lockPool, turnPool }: LockPools) {
  const inTurn: JobTurn = ({ stamp }, { signal }, work) => {
    const busy = () =>
      new DeferredError("state_job_busy", `The job of the stamp ${stamp.id} works for others.`, {
        service: "azure",
        afterMs: 5_000,
      });
    const lock = { patienceMs: TURN_PATIENCE_MS, busy, signal };
    return withAdvisoryLock(turnPool, `azure-job:${stamp.id}`, lock, work);
  };
  return {
    inTurn,
    exclusively<T>(tenantId: TenantId, call: DriverCall, work: (errand: Errand) => Promise<T>): Promise<T> {
      const busy = () =>
        new DeferredError("runtime_busy", "Another process is at work on this runtime.", {
          service: "azure",
          afterMs: 2_000,
        });
      const lock = { patienceMs: LOCK_PATIENCE_MS, busy, signal: call.signal };
      return withAdvisoryLock(lockPool, `azure-runtime:${tenantId}`, lock, () => work({ ...call, tenantId }));
    },
  };
}
