import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { DeferredError, UpstreamError } from "../../../platform/errors.ts";
import type { TenantId } from "../../../platform/ids.ts";
import type { StateSnapshot } from "../runtime-snapshots.ts";
import { FIND_AGAIN, runJob, type Share } from "./state-share.ts";
import type { Errand } from "./steps.ts";

const RESTORE_SECONDS = 3_600;
/** Until Azure has ended it for sure: the runtime must not be woken before. */
const PATIENCE_MS = 1_000 * (RESTORE_SECONDS + 300);
const SWAP_ATTEMPTS = 3;

/** Beside the state, and under a name of this run's own: whoever else still copies is not in the way. Its numbers go to the job's log. */
export const COPY = `${FIND_AGAIN}
set -- "$SHARE/.snapshots/$SNAPSHOT"*
test "$#" = 1
from="$1/$FOLDER"
if [ ! -d "$from" ]; then echo "the snapshot has no $FOLDER"; exit 1; fi
to="$SHARE/$FOLDER.restored-$RUN"
rm -rf "$to"
cp -a "$from" "$to"
sync
measure() {
  find "$1" ! -type d | wc -l
  find "$1" -type f -printf '%s\\n' | { bytes=0; while read -r size; do bytes=$((bytes + size)); done; echo "$bytes"; }
}
kept="$(measure "$from")"
copied="$(measure "$to")"
echo "files and bytes in the snapshot:" $kept
echo "files and bytes in the copy:" $copied
test "$kept" = "$copied"`;

/** What it moves away has this run's name, so that it can't be taken for the old state twice. Leftovers are older than any run can be. */
export const SWAP = `new="$SHARE/$FOLDER.restored-$RUN"
if [ -d "$new" ]; then
  if [ -e "$SHARE/$FOLDER" ]; then mv -T "$SHARE/$FOLDER" "$SHARE/$FOLDER.replaced-$RUN"; fi
  mv -T "$new" "$SHARE/$FOLDER"
fi
test -d "$SHARE/$FOLDER"
sync
rm -rf "$SHARE/$FOLDER".replaced-*
for left in "$SHARE/$FOLDER".restored-*; do
  if [ -e "$left" ]; then find "$left" -maxdepth 0 -cmin +120 -exec rm -rf {} +; fi
done`;

/**
 * Replaces a tenant's state by what a snapshot has of it, in two runs of the stamp's job: the long one only copies and compares, and
 * does no harm if it goes on after everybody has left; the short one exchanges two names, and is run until it is known to have ended.
 * `mayGoOn` is asked between them.
 */
export async function restoreState(
  share: Share,
  errand: Errand,
  { tenantId, snapshot, mayGoOn }: { tenantId: TenantId; snapshot: StateSnapshot; mayGoOn: () => Promise<void> },
): Promise<void> {
  const env = { SNAPSHOT: nameStart(snapshot), RUN: randomBytes(6).toString("hex") };
  const work = { tenantId, env, seconds: RESTORE_SECONDS, patienceMs: PATIENCE_MS };
  const { client } = share;
  await client.step(errand, "state.copy", `The state of ${tenantId} could not be copied from the snapshot`, () =>
    runJob(share, errand, { ...work, script: COPY }).catch((error: unknown) => {
      throw explainCopy(error, snapshot);
    }),
  );
  await mayGoOn();
  const { signal: _signal, ...uninterrupted } = errand;
  await insist(share, () =>
    client.step(uninterrupted, "state.swap", `The state of ${tenantId} could not be exchanged`, () =>
      runJob(share, uninterrupted, { ...work, script: SWAP }),
    ),
  );
}

/** How the snapshot's folder begins: how many digits of a second Azure writes there is left open. */
function nameStart({ time }: StateSnapshot): string {
  return time.replace(/\.?0*Z$/, "");
}

function explainCopy(error: unknown, { time, share }: StateSnapshot): unknown {
  if (!(error instanceof UpstreamError) || error.code !== "state_job_failed") return error;
  return new UpstreamError(
    "snapshot_not_copied",
    `The state could not be copied from the snapshot of ${time}, and is as it was. Perhaps the snapshot has nothing of this tenant, or there is no room on the share ${share}. ${error.message}`,
    { service: "azure", retryable: true, cause: error },
  );
}

/** An answer may be lost to a start that went through: only one that ended well tells that nothing is under way. */
async function insist({ client: { pollMs } }: Share, work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (attempt === SWAP_ATTEMPTS || !(error instanceof UpstreamError && error.retryable)) throw error;
      await delay(error instanceof DeferredError ? error.afterMs : pollMs);
    }
  }
}
