import { randomUUID } from "node:crypto";
import { refuseLocked } from "./locks.ts";
import { notFound } from "./refusal.ts";
import { keyOf, shownId } from "./resource-id.ts";
import { below, type Handler, page, routesOf, type Route } from "./routing.ts";
import { identityBody, validBody } from "./schema.ts";
import type { Answer, Call, ManagedIdentity, World } from "./world.ts";

/** The directory that all loopback principals are in. */
export const DIRECTORY_ID = "c7cb8e56-3c8d-431c-a94c-866e27a25b45";

export function addIdentity(
  world: World,
  fields: Pick<ManagedIdentity, "id" | "name" | "location" | "tags"> & { replication?: number },
): ManagedIdentity {
  const identity = { replication: 0, ...fields, principalId: randomUUID(), clientId: randomUUID() };
  world.identities.set(keyOf(fields.id), identity);
  return identity;
}

function put(world: World, call: Call): Answer {
  const { path, params } = call;
  const { location, tags = {} } = validBody(identityBody, call, world.violations);
  const existing = world.identities.get(keyOf(path));
  if (existing === undefined) {
    const replication = world.settle.principalReplication;
    const name = params["name"] ?? "";
    return { status: 201, body: shown(addIdentity(world, { id: path, name, location, tags, replication })) };
  }
  existing.tags = tags;
  return { status: 200, body: shown(existing) };
}

function find(world: World, { path, params }: Call): ManagedIdentity {
  const identity = world.identities.get(keyOf(path));
  if (identity !== undefined) return identity;
  throw notFound("Microsoft.ManagedIdentity/userAssignedIdentities", params["name"] ?? "", params["group"] ?? "");
}

/** Its role assignments stay behind. */
function remove(world: World, { path }: Call): Answer {
  refuseLocked(world, path);
  return { status: world.identities.delete(keyOf(path)) ? 200 : 204 };
}

function shown({ id, name, location, tags, principalId, clientId }: ManagedIdentity) {
  return {
    id: shownId(id),
    name,
    type: "Microsoft.ManagedIdentity/userAssignedIdentities",
    location,
    tags,
    properties: { tenantId: DIRECTORY_ID, principalId, clientId, isolationScope: "None" },
  };
}

const { ofGroup, ofSubscription } = routesOf("Microsoft.ManagedIdentity", "2024-11-30");
const list: Handler = (world, call) => page(world, call, below(world.identities, call), shown);

export const IDENTITY_ROUTES: readonly Route[] = [
  ofGroup("PUT", "userAssignedIdentities/{name}", put),
  ofGroup("GET", "userAssignedIdentities/{name}", (world, call) => ({ status: 200, body: shown(find(world, call)) })),
  ofGroup("DELETE", "userAssignedIdentities/{name}", remove),
  ofGroup("GET", "userAssignedIdentities", list),
  ofSubscription("GET", "userAssignedIdentities", list),
];
