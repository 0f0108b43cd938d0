import { isRunning } from "./replicas.ts";
import type { App, EnvironmentStorage, Job, ManagedIdentity, Revision, RoleAssignment, Share, World } from "./world.ts";

/** What is to be known of an app beside what ARM shows of it. */
type AppSnapshot = Pick<
  App,
  | "id"
  | "name"
  | "location"
  | "tags"
  | "identities"
  | "configuration"
  | "template"
  | "provisioningState"
  | "latestRevisionName"
  | "latestReadyRevisionName"
> & {
  /** Of its first container. */
  image: string;
  secrets: Record<string, string>;
  /** Base address of its ingress. */
  address: string;
  isAwake: boolean;
  revisions: (Pick<Revision, "name" | "active" | "provisioningState" | "failure" | "template" | "createdTime"> & {
    /** Containers that really run. */
    running: number;
  })[];
};

function snapshotApp(app: App): AppSnapshot {
  const { id, name, location, tags, identities, configuration, template, provisioningState } = app;
  const { latestRevisionName, latestReadyRevisionName } = app;
  return structuredClone({
    id,
    name,
    location,
    tags,
    identities,
    configuration,
    template,
    provisioningState,
    latestRevisionName,
    latestReadyRevisionName,
    image: template.containers?.[0]?.image ?? "",
    secrets: Object.fromEntries(app.secrets),
    address: `https://127.0.0.1:${app.port}`,
    isAwake: [...app.revisions.values()].some(({ active }) => active),
    revisions: [...app.revisions.values()].map((revision) => ({
      name: revision.name,
      active: revision.active,
      provisioningState: revision.provisioningState,
      failure: revision.failure,
      template: revision.template,
      createdTime: revision.createdTime,
      running: isRunning(revision) ? 1 : 0,
    })),
  });
}

/** What there is at the moment, as copies. */
export type Snapshots = {
  apps(): AppSnapshot[];
  identities(): ManagedIdentity[];
  roleAssignments(): RoleAssignment[];
  shares(): Share[];
  storages(): EnvironmentStorage[];
  jobs(): Job[];
  /** How many containers really run, by `app/revision`. */
  replicas(): Record<string, number>;
};

export function snapshotsOf(world: World): Snapshots {
  return {
    apps: () => [...world.apps.values()].map(snapshotApp),
    identities: () => copies(world.identities),
    roleAssignments: () => copies(world.roleAssignments),
    shares: () => copies(world.shares),
    storages: () => copies(world.storages),
    jobs: () => copies(world.jobs),
    replicas: () =>
      Object.fromEntries(
        [...world.apps.values()].flatMap(({ name: app, revisions }) =>
          [...revisions.values()].map((revision) => [`${app}/${revision.name}`, isRunning(revision) ? 1 : 0]),
        ),
      ),
  };
}

function copies<Record extends object>(records: ReadonlyMap<string, Record>): Record[] {
  return [...records.values()].map((record) => ({ ...record }));
}
