import type { Stamp } from "../../../platform/config.ts";
import { ConflictError, DeferredError, NotFoundError } from "../../../platform/errors.ts";
import type { TenantId } from "../../../platform/ids.ts";
import type { Journal } from "../journal.ts";
import type { DriverCall } from "../runtime-driver.ts";
import type { RuntimeSnapshots } from "../runtime-snapshots.ts";
import { getSettledApp, listRevisions } from "./app.ts";
import type { ArmClients } from "./arm-clients.ts";
import { createLocks, type LockPools } from "./locks.ts";
import { runtimeName } from "./names.ts";
import { isActive } from "./observe.ts";
import type { AzureRecord, Records } from "./records.ts";
import { unknownStamp } from "./refusals.ts";
import { getSnapshot, takeSnapshot } from "./share-snapshots.ts";
import { restoreState } from "./state-restore.ts";
import { prepareStamp } from "./state-share.ts";
import { createStampClient, type Errand, type StampClient } from "./steps.ts";

export type AzureSnapshotsOptions = LockPools & {
  stamps: readonly Stamp[];
  openArm: (stamp: Stamp) => ArmClients;
  records: Records;
  journal: Journal;
  readInstallation: () => Promise<string>;
  pollMs: number;
};

/** Somebody waits for his assistant meanwhile. */
const URGENCY = "provision";
/** Of who is about to put it to sleep, or has just begun to. */
const PASSING: readonly string[] = ["runtime_busy", "app_busy"];

/** Snapshots of the stamps' shares, under the same locks as the driver works. */
export function createAzureSnapshots(options: AzureSnapshotsOptions): Omit<RuntimeSnapshots, "close"> {
  const { stamps, openArm, records, journal, readInstallation, pollMs } = options;
  const { exclusively, inTurn } = createLocks(options);

  function clientOf({ stampId }: AzureRecord): StampClient {
    const stamp = stamps.find(({ id }) => id === stampId);
    if (stamp === undefined) throw unknownStamp(stampId);
    return createStampClient({ stamp, arm: openArm(stamp), journal, pollMs });
  }

  async function recordOf(tenantId: TenantId): Promise<AzureRecord> {
    const record = await records.find(tenantId);
    if (record !== undefined) return record;
    throw new NotFoundError("state_absent", `Nothing is kept for ${tenantId} on Azure: it has never run there.`);
  }

  /** What is in the record costs nothing to ask. */
  async function recordOfSleeping(tenantId: TenantId): Promise<AzureRecord> {
    const record = await recordOf(tenantId);
    if (record.spec !== undefined && record.desired === "awake") throw awake(tenantId);
    return record;
  }

  async function requireAsleep(errand: Errand, tenantId: TenantId): Promise<StampClient> {
    const client = clientOf(await recordOfSleeping(tenantId));
    const app = await getSettledApp(client, errand, { tenantId, installation: await readInstallation() });
    if (app === undefined) return client;
    const revisions = await listRevisions(client, errand, runtimeName(tenantId));
    if (isActive({ app, revisions })) throw awake(tenantId);
    return client;
  }

  /** Under the lock without which nobody starts the runtime. */
  async function whileAsleep<Result>(
    tenantId: TenantId,
    call: DriverCall,
    work: (client: StampClient, errand: Errand) => Promise<Result>,
  ): Promise<Result> {
    await recordOfSleeping(tenantId);
    try {
      return await exclusively(tenantId, { urgency: URGENCY, ...call }, async (errand) =>
        work(await requireAsleep(errand, tenantId), errand),
      );
    } catch (error) {
      if (error instanceof DeferredError && PASSING.includes(error.code)) throw awake(tenantId, error);
      throw error;
    }
  }

  return {
    take: (tenantId, call = {}) => whileAsleep(tenantId, call, takeSnapshot),
    async get(tenantId, time, call = {}) {
      return getSnapshot(clientOf(await recordOf(tenantId)), { urgency: URGENCY, ...call, tenantId }, time);
    },
    restore: (tenantId, snapshot, call = {}) =>
      whileAsleep(tenantId, call, async (client, errand) => {
        const { tenantId: _tenantId, ...common } = errand;
        await prepareStamp(client, common);
        await restoreState({ client, installation: await readInstallation(), inTurn }, errand, {
          tenantId,
          snapshot,
          // The lock goes with its connection, and copying takes long.
          async mayGoOn() {
            errand.signal?.throwIfAborted();
            await requireAsleep(errand, tenantId);
          },
        });
      }),
  };
}

function awake(tenantId: TenantId, cause?: Error): ConflictError {
  return new ConflictError(
    "runtime_awake",
    `The runtime of tenant ${tenantId} is not asleep; put it to sleep first: openclaw tenant sleep ${tenantId}`,
    { cause },
  );
}
