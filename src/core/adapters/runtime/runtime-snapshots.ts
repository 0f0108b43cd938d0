import type { StampId, TenantId } from "../../platform/ids.ts";
import type { DriverCall } from "./runtime-driver.ts";

/** What all runtimes of a stamp keep, as it was at one moment. */
export type StateSnapshot = {
  /** Its name, as the cloud writes it. */
  time: string;
  stampId: StampId;
  storageAccount: string;
  share: string;
};

/**
 * Snapshots of what runtimes keep, for a driver whose files nobody gets at from outside. What needs a runtime at rest keeps it from
 * being started meanwhile, and fails with the ConflictError `runtime_awake`, before anything is done, while it may be writing: put it
 * to sleep and ask again.
 */
export type RuntimeSnapshots = {
  /**
   * Takes one of the share that a sleeping tenant's state lies on; it counts as taken when it was read back.
   * @throws NotFoundError when nothing is kept for the tenant, ConflictError when there are as many as the cloud allows.
   */
  take(tenantId: TenantId, call?: DriverCall): Promise<StateSnapshot>;
  /** The one of `time`, of the share that the tenant's state lies on. @throws NotFoundError when there is none. */
  get(tenantId: TenantId, time: Date, call?: DriverCall): Promise<StateSnapshot>;
  /**
   * Replaces the state of a sleeping tenant, and nobody else's, by what the snapshot has of it. Cut off at any moment, the old or the new
   * state is there, whole; asked again, it goes on to the end.
   */
  restore(tenantId: TenantId, snapshot: StateSnapshot, call?: DriverCall): Promise<void>;
  close(): Promise<void>;
};
