import { randomUUID } from "node:crypto";
import type { Stamp } from "../../../../platform/config.ts";
import { nowText } from "./clock.ts";
import { addIdentity } from "./identities.ts";
import { keyOf } from "./resource-id.ts";
import { ACR_PULL, addRoleAssignment, registryScope } from "./role-assignments.ts";
import { addRevision } from "./revisions.ts";
import type { App, ManagedIdentity, World } from "./world.ts";

/** The identity that pulls images for all apps of a stamp; whoever set the stamp up made it. */
export const PULL_IDENTITY = "openclaw-pull";

export function seedPullIdentity(world: World, stamp: Stamp): void {
  const { subscriptionId, location, acrServer } = stamp;
  if (acrServer === undefined) return;
  const id = identityId(stamp, PULL_IDENTITY);
  const { principalId } = addIdentity(world, { id, name: PULL_IDENTITY, location, tags: {} });
  addRoleAssignment(world, {
    name: randomUUID(),
    scope: registryScope(stamp, acrServer),
    roleDefinitionId: `/subscriptions/${subscriptionId}/providers/Microsoft.Authorization/roleDefinitions/${ACR_PULL}`,
    principalId,
  });
}

/** What is there before the control plane comes. */
export type Seeds = {
  /** An app that somebody else runs, without tags unless given. */
  app(name: string, options?: { stamp?: Stamp; tags?: Record<string, string> }): Promise<void>;
  identity(name: string, options?: { stamp?: Stamp; tags?: Record<string, string> }): ManagedIdentity;
  /** From now on only these images exist. */
  images(...images: string[]): void;
};

export function seedsOf(world: World, firstStamp: Stamp): Seeds {
  return {
    app: (name, { stamp = firstStamp, tags = {} } = {}) => seedForeignApp(world, stamp, name, tags),
    identity(name, { stamp = firstStamp, tags = {} } = {}) {
      return addIdentity(world, { id: identityId(stamp, name), name, location: stamp.location, tags });
    },
    images(...images) {
      world.images = new Set(images);
    },
  };
}

function identityId({ subscriptionId, resourceGroup }: Stamp, name: string): string {
  return `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/${name}`;
}

async function seedForeignApp(
  world: World,
  { subscriptionId, resourceGroup, location, environmentId }: Stamp,
  name: string,
  tags: Record<string, string>,
): Promise<void> {
  const id = `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.App/containerApps/${name}`;
  const app: App = {
    id,
    name,
    group: resourceGroup,
    location,
    tags,
    identityType: "None",
    identities: [],
    managedBy: undefined,
    workloadProfileName: undefined,
    environmentId,
    configuration: { ingress: { external: true, targetPort: 80 } },
    template: {
      containers: [
        { name: "web", image: "mcr.microsoft.com/k8se/quickstart:latest", resources: { cpu: 0.25, memory: "0.5Gi" } },
      ],
      scale: { minReplicas: 1, maxReplicas: 1 },
    },
    secrets: new Map(),
    provisioningState: "Succeeded",
    revisions: new Map(),
    latestRevisionName: "",
    latestReadyRevisionName: "",
    operation: undefined,
    createdAt: nowText(),
    port: await world.openIngress(keyOf(id)),
  };
  world.apps.set(keyOf(id), app);
  addRevision(world, app, `${name}--first`).provisioningState = "Provisioned";
}
