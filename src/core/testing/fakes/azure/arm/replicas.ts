import type { ContainerHealth } from "./container-host.ts";
import { environmentOf, mountsOf } from "./mounts.ts";
import { pullProblem } from "./registry.ts";
import type { App, Revision, World } from "./world.ts";

/**
 * Starts the container of a revision, or notes on it why it can't start. Two that work on one folder at once are a violation (F42), unless
 * somebody else's hand made it so.
 */
export function startReplica(world: World, app: App, revision: Revision, byOthers = false): void {
  revision.failure = undefined;
  const [container] = revision.template.containers ?? [];
  if (container?.image === undefined || revision.container?.isRunning() === true) return;
  const secrets = app.secrets;
  const { environmentId, configuration } = app;
  const mounts = mountsOf(world, { environmentId, volumes: revision.template.volumes, container, secrets });
  const problem =
    typeof mounts === "string" ? mounts : pullProblem(world, container.image, configuration.registries ?? []);
  if (typeof mounts === "string" || problem !== undefined) {
    revision.failure = problem;
    return;
  }
  if (!byOthers) noteOtherWriters(world, app, revision);
  revision.draining = 0;
  revision.container = world.containers.start({
    app: app.name,
    tags: app.tags,
    revision: revision.name,
    image: container.image,
    env: environmentOf(container, secrets),
    mounts,
    targetPort: configuration.ingress?.targetPort ?? 80,
  });
}

function noteOtherWriters(world: World, app: App, started: Revision): void {
  const mine = writtenFolders(world, app, started);
  if (mine.length === 0) return;
  for (const other of world.apps.values()) {
    for (const revision of other.revisions.values()) {
      if (!isRunning(revision)) continue;
      const shared = writtenFolders(world, other, revision).find((folder) => mine.includes(folder));
      if (shared !== undefined)
        world.violations.push(`${started.name} was started while ${revision.name} still ran on the same state`);
    }
  }
}

/** Storage and path in it, as the template names them: they may be gone by now. */
function writtenFolders({ stamps }: World, app: App, { template }: Revision): string[] {
  const mounts = template.containers?.[0]?.volumeMounts ?? [];
  return mounts.flatMap(({ volumeName, subPath = "" }) => {
    const volume = template.volumes?.find(({ name }) => name === volumeName);
    if (volume?.storageType !== "NfsAzureFile") return [];
    const stamp = stamps.find(({ environmentId }) => environmentId.toLowerCase() === app.environmentId.toLowerCase());
    return [`${stamp?.id}/${volume.storageName}/${subPath}`];
  });
}

/** A deactivated replica runs on until nobody is shown it any more. */
export function isRunning({ container, ending, draining }: Revision): boolean {
  return container?.isRunning() === true || ending.some((one) => one.isRunning()) || draining > 0;
}

/** Tells a revision's container to end; until it has, it still counts. */
export function stopReplica(world: World, revision: Revision): void {
  const { container } = revision;
  if (container === undefined) return;
  if (container.isRunning()) revision.draining = world.settle.zeroReplicaReads;
  container.stop();
  revision.ending = [...revision.ending.filter((one) => one.isRunning()), container];
  revision.container = undefined;
}

export function deactivate(world: World, revision: Revision): void {
  revision.active = false;
  stopReplica(world, revision);
}

/** What couldn't be pulled or mounted is tried again and again. */
function startFailed(world: World, app: App, revision: Revision): void {
  const { active, failure, provisioningState } = revision;
  if (active && failure !== undefined && provisioningState === "Provisioned") startReplica(world, app, revision);
}

async function healthOf({ active, container, failure }: Revision): Promise<ContainerHealth | "failed" | "none"> {
  if (!active) return "none";
  if (failure !== undefined) return "failed";
  return container?.isRunning() === true ? container.health() : "unhealthy";
}

export type Healths = ReadonlyMap<string, Awaited<ReturnType<typeof healthOf>>>;

/** A look at an app's replicas: which are healthy, and with that which revision is the latest that became ready. */
export async function observe(world: World, app: App): Promise<Healths> {
  const healths = new Map<string, Awaited<ReturnType<typeof healthOf>>>();
  for (const revision of app.revisions.values()) startFailed(world, app, revision);
  for (const revision of app.revisions.values()) healths.set(revision.name, await healthOf(revision));
  if (healths.get(app.latestRevisionName) !== "healthy") return healths;
  app.latestReadyRevisionName = app.latestRevisionName;
  if (app.configuration.activeRevisionsMode === "Multiple") return healths;
  for (const revision of app.revisions.values())
    if (revision.active && revision.name !== app.latestRevisionName) deactivate(world, revision);
  return healths;
}
