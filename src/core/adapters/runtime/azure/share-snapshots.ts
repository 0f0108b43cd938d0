import { ConflictError, NotFoundError, UpstreamError } from "../../../platform/errors.ts";
import type { StateSnapshot } from "../runtime-snapshots.ts";
import { STATE_SHARE } from "./names.ts";
import type { Errand, StampClient } from "./steps.ts";

/** Of one share, as Azure has it. */
const MOST_SNAPSHOTS = 200;
const NAMED = 3;

/** Takes one of the stamp's share and reads it back. @throws ConflictError when there is no room for another. */
export async function takeSnapshot(client: StampClient, errand: Errand): Promise<StateSnapshot> {
  const { stamp, arm } = client;
  if ((await listTimes(client, errand)).length >= MOST_SNAPSHOTS) throw full(client);
  const what = `No snapshot of the share ${STATE_SHARE} could be taken`;
  const taken = await client.step(errand, "state.snapshot", what, async () =>
    (await arm.storage()).fileShares.create(
      stamp.resourceGroup,
      stamp.storageAccount,
      STATE_SHARE,
      {},
      {
        expand: "snapshots",
      },
    ),
  );
  const time = taken.snapshotTime?.getTime();
  const found = (await listTimes(client, errand)).find((one) => one.getTime() === time);
  if (found !== undefined) return describe(client, found);
  throw new UpstreamError("snapshot_not_verified", "Azure took a snapshot that can't be read back. Take another.", {
    service: "azure",
    retryable: true,
  });
}

/** @throws NotFoundError naming the newest that there are. */
export async function getSnapshot(client: StampClient, errand: Errand, time: Date): Promise<StateSnapshot> {
  const times = await listTimes(client, errand);
  const found = times.find((one) => one.getTime() === time.getTime());
  if (found !== undefined) return describe(client, found);
  const newest = times.slice(-NAMED).map(timeText).join(", ");
  throw new NotFoundError(
    "snapshot_absent",
    `The share ${STATE_SHARE} of ${client.stamp.storageAccount} has no snapshot of ${timeText(time)}; ${newest === "" ? "it has none at all" : `the newest are ${newest}`}.`,
  );
}

/** Oldest first. */
async function listTimes(client: StampClient, errand: Errand): Promise<Date[]> {
  const { stamp, arm } = client;
  const times: Date[] = [];
  await client.look(errand, `The snapshots of the share ${STATE_SHARE} could not be listed`, async () => {
    const { fileShares } = await arm.storage();
    for await (const { name, snapshotTime } of fileShares.list(stamp.resourceGroup, stamp.storageAccount, {
      expand: "snapshots",
    }))
      if (name === STATE_SHARE && snapshotTime !== undefined) times.push(snapshotTime);
  });
  return times.toSorted((one, other) => one.getTime() - other.getTime());
}

function describe({ stamp: { id, storageAccount } }: StampClient, time: Date): StateSnapshot {
  return { time: timeText(time), stampId: id, storageAccount, share: STATE_SHARE };
}

/** With the seven digits that Azure writes. */
function timeText(time: Date): string {
  return time.toISOString().replace("Z", "0000Z");
}

function full({ stamp: { storageAccount, resourceGroup } }: StampClient): ConflictError {
  return new ConflictError(
    "snapshots_full",
    `The share ${STATE_SHARE} of ${storageAccount} has ${MOST_SNAPSHOTS} snapshots, and Azure allows no more. Delete old ones: az storage share-rm delete --resource-group ${resourceGroup} --storage-account ${storageAccount} --name ${STATE_SHARE} --snapshot <time>`,
  );
}
