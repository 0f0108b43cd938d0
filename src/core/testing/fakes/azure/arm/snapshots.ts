import { isRunning } from "./replicas.ts";
import type { App, Revision } from "./world.ts";

/** What is to be known of an app beside what ARM shows of it. */
export type AppSnapshot = Pick<
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

export function snapshotApp(app: App): AppSnapshot {
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
