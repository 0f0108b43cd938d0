import { setTimeout as delay } from "node:timers/promises";
import type { ContainerApp, Revision } from "@azure/arm-appcontainers";
import { DeferredError } from "../../../platform/errors.ts";
import type { TenantId } from "../../../platform/ids.ts";
import { readArmFailure } from "./arm-errors.ts";
import { isOurs, runtimeName } from "./names.ts";
import { foreign, stillThere } from "./refusals.ts";
import { type Errand, ifThere, type StampClient } from "./steps.ts";

/** How long a revision may take until its last replica is gone before that is left for later. */
const DRAIN_LOOKS = 15;

type Owner = { tenantId: TenantId; installation: string };

/** @throws ConflictError when there is one with its name that is not ours; DeferredError while Azure is still at work on it. */
export async function getSettledApp(
  client: StampClient,
  errand: Errand,
  owner: Owner,
): Promise<ContainerApp | undefined> {
  const app = await getApp(client, errand, owner);
  if (app?.provisioningState !== "InProgress" && app?.provisioningState !== "Deleting") return app;
  throw new DeferredError("app_busy", `Azure is still at work on the container app ${app.name ?? ""}.`, {
    service: "azure",
    afterMs: 5_000,
  });
}

/** @throws ConflictError when there is one with its name that is not ours. */
export async function getApp(client: StampClient, errand: Errand, owner: Owner): Promise<ContainerApp | undefined> {
  const { stamp, arm } = client;
  const name = runtimeName(owner.tenantId);
  const app = await client.look(errand, `The container app ${name} could not be read`, () =>
    ifThere(async () => (await arm.apps()).containerApps.get(stamp.resourceGroup, name)),
  );
  if (app !== undefined && !isOurs(app.tags, owner.installation)) throw foreign(`The container app ${name}`);
  return app;
}

export async function listRevisions(client: StampClient, errand: Errand, name: string): Promise<Revision[]> {
  const { stamp, arm } = client;
  return client.look(errand, `The revisions of ${name} could not be listed`, async () => {
    const revisions: Revision[] = [];
    const { containerAppsRevisions } = await arm.apps();
    for await (const revision of containerAppsRevisions.listRevisions(stamp.resourceGroup, name))
      revisions.push(revision);
    return revisions;
  });
}

export async function getRevision(
  client: StampClient,
  errand: Errand,
  name: string,
  revision: string,
): Promise<Revision | undefined> {
  const { stamp, arm } = client;
  return client.look(errand, `The revision ${revision} could not be read`, () =>
    ifThere(async () => (await arm.apps()).containerAppsRevisions.getRevision(stamp.resourceGroup, name, revision)),
  );
}

/** Makes the app what `body` says, or makes it anew, and waits until Azure says that it is done. @returns what came of it. */
export async function putApp(
  client: StampClient,
  errand: Errand,
  name: string,
  body: ContainerApp,
): Promise<ContainerApp> {
  const { stamp, arm, pollMs } = client;
  const suffix = body.template?.revisionSuffix ?? "";
  return client.step(
    errand,
    "app.apply",
    `The revision ${suffix} of the container app ${name} was refused`,
    async () => {
      const { containerApps } = await arm.apps();
      return containerApps
        .createOrUpdate(stamp.resourceGroup, name, body, { updateIntervalInMs: pollMs })
        .pollUntilDone();
    },
  );
}

/**
 * Deactivates every revision that is active and returns once none has a replica left: two writers never share a state. One that is
 * in that state already is done, whatever Azure answers (F38).
 * @throws DeferredError when a replica takes its time.
 */
export async function stopRevisions(
  client: StampClient,
  errand: Errand,
  name: string,
  revisions: readonly Revision[],
): Promise<void> {
  for (const revision of revisions) {
    if (revision.active !== true && (revision.replicas ?? 0) === 0) continue;
    const revisionName = revision.name ?? "";
    await client.step(errand, "revision.stop", `The revision ${revisionName} could not be stopped`, async () => {
      if (revision.active === true) await switchRevision(client, name, revisionName, "off");
      await untilDrained(client, errand, name, revisionName);
    });
  }
}

async function untilDrained(client: StampClient, errand: Errand, name: string, revision: string): Promise<void> {
  for (let looks = 0; looks < DRAIN_LOOKS; looks += 1) {
    const seen = await getRevision(client, errand, name, revision);
    if (seen === undefined || (seen.active !== true && (seen.replicas ?? 0) === 0)) return;
    await delay(client.pollMs, undefined, { signal: errand.signal });
  }
  throw new DeferredError("revision_draining", `The revision ${revision} still has a replica that ends its work.`, {
    service: "azure",
    afterMs: 10_000,
  });
}

export async function startRevision(
  client: StampClient,
  errand: Errand,
  name: string,
  revision: string,
): Promise<void> {
  await client.step(errand, "revision.start", `The revision ${revision} could not be started`, () =>
    switchRevision(client, name, revision, "on"),
  );
}

async function switchRevision(
  { stamp, arm }: StampClient,
  name: string,
  revision: string,
  to: "on" | "off",
): Promise<void> {
  const { containerAppsRevisions: revisions } = await arm.apps();
  try {
    if (to === "on") await revisions.activateRevision(stamp.resourceGroup, name, revision);
    else await revisions.deactivateRevision(stamp.resourceGroup, name, revision);
  } catch (error) {
    // Lists are stale at times: what counts is read back afterwards.
    const { status, message } = readArmFailure(error);
    if (status !== 400 || !/already/i.test(message)) throw error;
  }
}

/** Removes the app and reads back that it is gone (F43). */
export async function removeApp(client: StampClient, errand: Errand, owner: Owner): Promise<void> {
  const { stamp, arm, pollMs } = client;
  const name = runtimeName(owner.tenantId);
  if ((await getApp(client, errand, owner)) === undefined) return;
  await client.step(errand, "app.remove", `The container app ${name} could not be removed`, async () => {
    await (
      await arm.apps()
    ).containerApps
      .delete(stamp.resourceGroup, name, { updateIntervalInMs: pollMs })
      .pollUntilDone();
  });
  if ((await getApp(client, errand, owner)) !== undefined) throw stillThere(`The container app ${name}`);
}
