import type { Job } from "@azure/arm-appcontainers";
import { setTimeout as delay } from "node:timers/promises";
import { DeferredError, UpstreamError } from "../../../platform/errors.ts";
import type { TenantId } from "../../../platform/ids.ts";
import { statePath } from "./container-app.ts";
import { STATE_JOB, STATE_SHARE, environmentOf, isOurs, ownTags } from "./names.ts";
import { foreign } from "./refusals.ts";
import { type Errand, ifThere, type StampClient } from "./steps.ts";

/** A small image of Microsoft's own registry with a shell and the usual commands, in which one is root. */
const JOB_IMAGE = "mcr.microsoft.com/azurelinux/base/core:3.0";
const MOUNT = "/share";
const SHARE_GIB = 1_024;
const JOB_SECONDS = 600;
/** Of which the folder is, inside a runtime. */
const RUNTIME_UID = 1_000;
const PATIENCE_MS = 120_000;
/** What takes longer is looked at more seldom: each look is a call of the budget. */
const SLOWER = 10;

/** A restoration that was cut off between its two renames left the folder under another name. */
export const FIND_AGAIN = `for left in "$SHARE/$FOLDER".replaced-*; do
  if [ ! -e "$SHARE/$FOLDER" ] && [ -d "$left" ]; then mv -T "$left" "$SHARE/$FOLDER"; fi
done`;
const MAKE = `${FIND_AGAIN}
mkdir -p "$SHARE/$FOLDER"
chmod 700 "$SHARE/$FOLDER"
if [ "$(id -u)" = 0 ]; then chown ${RUNTIME_UID}:${RUNTIME_UID} "$SHARE/$FOLDER"; fi`;
const ERASE = `rm -rf "$SHARE/$FOLDER" "$SHARE/$FOLDER".restored-* "$SHARE/$FOLDER".replaced-*
test ! -e "$SHARE/$FOLDER"`;

/**
 * What the runtimes of a stamp have in common: a share, and the environment's name for it. In this order: a volume must exist before
 * it is mounted (F31).
 */
export async function prepareStamp(client: StampClient, errand: Errand): Promise<void> {
  await ensureShare(client, errand);
  await ensureStorage(client, errand);
}

async function ensureShare(client: StampClient, errand: Errand): Promise<void> {
  const { stamp, arm } = client;
  const found = await client.look(errand, `The share ${STATE_SHARE} could not be read`, () =>
    ifThere(async () => (await arm.storage()).fileShares.get(stamp.resourceGroup, stamp.storageAccount, STATE_SHARE)),
  );
  if (found !== undefined) return requireNfs(found.enabledProtocols, stamp.storageAccount);
  await client.step(errand, "stamp.share", `The share ${STATE_SHARE} could not be made`, async () => {
    const share = { enabledProtocols: "NFS", shareQuota: SHARE_GIB, rootSquash: "NoRootSquash" };
    await (await arm.storage()).fileShares.create(stamp.resourceGroup, stamp.storageAccount, STATE_SHARE, share);
  });
}

/** SQLite on SMB corrupts (F42). */
function requireNfs(protocols: string | undefined, account: string): void {
  if (protocols?.toUpperCase() === "NFS") return;
  throw new UpstreamError(
    "share_not_nfs",
    `The share ${STATE_SHARE} of the storage account ${account} does not speak NFS, on which alone SQLite is safe. Use another account.`,
    { service: "azure", retryable: false },
  );
}

async function ensureStorage(client: StampClient, errand: Errand): Promise<void> {
  const { stamp, arm } = client;
  const { group, name } = environmentOf(stamp);
  const what = `The environment's storage ${STATE_SHARE}`;
  const shareName = `/${stamp.storageAccount}/${STATE_SHARE}`;
  const found = await client.look(errand, `${what} could not be read`, () =>
    ifThere(async () => (await arm.apps()).managedEnvironmentsStorages.get(group, name, STATE_SHARE)),
  );
  const server = await fileServerOf(client, errand);
  const mounted = found?.properties?.nfsAzureFile;
  if (mounted?.server?.toLowerCase() === server && mounted.shareName?.toLowerCase() === shareName) return;
  // It bears no mark, and every app that mounts it would come up with another state, or none.
  if (found !== undefined)
    throw foreign(`${what}, which leads to ${describeShare(mounted)} instead of ${server}${shareName},`);
  await client.step(errand, "stamp.storage", `${what} could not be made`, async () => {
    const nfsAzureFile = { server, shareName, accessMode: "ReadWrite" };
    await (
      await arm.apps()
    ).managedEnvironmentsStorages.createOrUpdate(group, name, STATE_SHARE, {
      properties: { nfsAzureFile },
    });
  });
}

/** Which of Azure's clouds and zones it is in is for the account to say. */
async function fileServerOf({ stamp, arm, look }: StampClient, errand: Errand): Promise<string> {
  const { resourceGroup, storageAccount } = stamp;
  const account = await look(errand, `The storage account ${storageAccount} could not be read`, async () =>
    (await arm.storage()).storageAccounts.getProperties(resourceGroup, storageAccount),
  );
  const host = URL.parse(account.primaryEndpoints?.file ?? "")?.hostname;
  return host ?? `${storageAccount}.file.core.windows.net`;
}

function describeShare(mounted: { server?: string; shareName?: string } | undefined): string {
  return mounted === undefined ? "a share that is not NFS" : `${mounted.server ?? ""}${mounted.shareName ?? ""}`;
}

/** A script for the stamp's job, which has the share's path in SHARE and a tenant's folder below it in FOLDER. */
export type JobWork = {
  script: string;
  tenantId: TenantId;
  env?: Readonly<Record<string, string>>;
  /** Azure ends it then. */
  seconds?: number;
  /** How long its end is waited for. */
  patienceMs?: number;
};

function jobOf({ stamp }: StampClient, installation: string, work: JobWork): Job {
  const { script, tenantId, env = {}, seconds = JOB_SECONDS } = work;
  return {
    location: stamp.location,
    tags: { ...ownTags(installation) },
    environmentId: stamp.environmentId,
    configuration: {
      triggerType: "Manual",
      replicaTimeout: seconds,
      replicaRetryLimit: 0,
      manualTriggerConfig: { parallelism: 1, replicaCompletionCount: 1 },
    },
    template: {
      containers: [
        {
          name: "state",
          image: JOB_IMAGE,
          command: ["/bin/sh"],
          args: ["-ec", script],
          env: Object.entries({ SHARE: MOUNT, FOLDER: statePath(tenantId), ...env }).map(([name, value]) => ({
            name,
            value,
          })),
          resources: { cpu: 0.25, memory: "0.5Gi" },
          volumeMounts: [{ volumeName: "state", mountPath: MOUNT }],
        },
      ],
      volumes: [{ name: "state", storageType: "NfsAzureFile", storageName: STATE_SHARE }],
    },
  };
}

/** One at a time works with the stamp's job, over all processes; it ends with the start of what the job is to do. */
export type JobTurn = <Result>(client: StampClient, errand: Errand, work: () => Promise<Result>) => Promise<Result>;

export type Share = { client: StampClient; installation: string; inTurn: JobTurn };

/** Makes the folder of a tenant's state; one that is there is left as it is. */
export async function ensureStateFolder(share: Share, errand: Errand, tenantId: TenantId): Promise<void> {
  await share.client.step(errand, "state.folder", `The state folder of ${tenantId} could not be made`, () =>
    runJob(share, errand, { script: MAKE, tenantId }),
  );
}

/** Removes a tenant's state for good; done only when the folder could be seen to be gone. */
export async function eraseState(share: Share, errand: Errand, tenantId: TenantId): Promise<void> {
  await share.client.step(errand, "state.erase", `The state of ${tenantId} could not be erased`, () =>
    runJob(share, errand, { script: ERASE, tenantId }),
  );
}

/**
 * Runs a script on the stamp's share, which speaks NFS and so can't be written to from outside, and waits for its end. Every script may
 * be run again. The job is made anew for each: a start that brings a container of its own may lose the job's mounts.
 */
export async function runJob({ client, installation, inTurn }: Share, errand: Errand, work: JobWork): Promise<void> {
  const { stamp, arm, pollMs } = client;
  const apps = await arm.apps();
  const execution = await inTurn(client, errand, async () => {
    await requireOurs(client, installation);
    const body = jobOf(client, installation, work);
    const poll = { updateIntervalInMs: pollMs };
    await apps.jobs.createOrUpdate(stamp.resourceGroup, STATE_JOB, body, poll).pollUntilDone();
    return apps.jobs.start(stamp.resourceGroup, STATE_JOB, poll).pollUntilDone();
  });
  const begun = performance.now();
  const deadline = begun + (work.patienceMs ?? PATIENCE_MS);
  while (performance.now() < deadline) {
    const { status, message } = await apps.jobExecution(stamp.resourceGroup, STATE_JOB, execution.name ?? "");
    if (status === "Succeeded") return;
    if (status === "Failed" || status === "Stopped" || status === "Degraded") throw jobFailed(status, message);
    await delay(performance.now() - begun < PATIENCE_MS ? pollMs : SLOWER * pollMs, undefined, {
      signal: errand.signal,
    });
  }
  throw new DeferredError("state_job_slow", `The job ${STATE_JOB} has not ended yet.`, {
    service: "azure",
    afterMs: 30_000,
  });
}

async function requireOurs({ stamp, arm }: StampClient, installation: string): Promise<void> {
  const found = await ifThere(async () => (await arm.apps()).jobs.get(stamp.resourceGroup, STATE_JOB));
  if (found !== undefined && !isOurs(found.tags, installation)) throw foreign(`The job ${STATE_JOB}`);
}

function jobFailed(status: string, message: string | undefined): UpstreamError {
  return new UpstreamError(
    "state_job_failed",
    `The job ${STATE_JOB} ended as ${status}${message === undefined ? "" : `: ${message}`}; see its log in the resource group.`,
    { service: "azure", retryable: true },
  );
}
