import { keyOf } from "./resource-id.ts";
import { ACR_PULL, assignmentsFor, registryScope } from "./role-assignments.ts";
import type { World } from "./world.ts";

/** Why an image can't be pulled; undefined when it can. */
export function pullProblem(
  world: World,
  image: string,
  registries: readonly { server?: string | undefined; identity?: string | undefined }[],
): string | undefined {
  const server = image.split("/")[0] ?? "";
  const stamp = world.stamps.find(({ acrServer }) => acrServer === server);
  if (stamp !== undefined) {
    const identity = registries.find((one) => one.server === server)?.identity ?? "";
    const principalId = world.identities.get(keyOf(identity))?.principalId ?? "";
    const roles = assignmentsFor(world, { principalId, role: ACR_PULL, scope: registryScope(stamp, server) });
    if (!roles.some(({ propagation }) => propagation === 0))
      return `Failed to pull image ${image}: unauthorized: authentication required`;
  }
  if (world.images !== undefined && !world.images.has(image))
    return `Failed to pull image ${image}: manifest unknown: manifest tagged by that name is not found`;
  return undefined;
}
