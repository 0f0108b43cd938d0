import type { Stamp } from "../../../../platform/config.ts";
import { nowText } from "./clock.ts";
import { DIRECTORY_ID } from "./identities.ts";
import { refuseLocked } from "./locks.ts";
import { Refusal } from "./refusal.ts";
import { keyOf, nameOf } from "./resource-id.ts";
import { page, routesOf, type Route } from "./routing.ts";
import { roleAssignmentBody, validBody } from "./schema.ts";
import type { Answer, Call, RoleAssignment, World } from "./world.ts";

export const KEY_VAULT_SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6";
export const ACR_PULL = "7f951dda-4ed3-4680-a7ca-43fe172d538d";

export function vaultScope({ subscriptionId, resourceGroup, vaultName }: Stamp): string {
  return `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.KeyVault/vaults/${vaultName}`;
}

export function registryScope({ subscriptionId, resourceGroup }: Stamp, server: string): string {
  return `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.ContainerRegistry/registries/${server.split(".")[0]}`;
}

/** Assignments that give a principal a role on something, by themselves or from above. */
export function assignmentsFor(
  world: World,
  { principalId, role, scope }: { principalId: string; role: string; scope: string },
): RoleAssignment[] {
  const wanted = keyOf(scope);
  return [...world.roleAssignments.values()].filter(
    (one) =>
      one.principalId === principalId &&
      nameOf(one.roleDefinitionId).toLowerCase() === role &&
      (wanted === keyOf(one.scope) || wanted.startsWith(`${keyOf(one.scope)}/`)),
  );
}

export function addRoleAssignment(
  world: World,
  fields: Pick<RoleAssignment, "name" | "scope" | "roleDefinitionId" | "principalId"> & { propagation?: number },
): RoleAssignment {
  const id = `${fields.scope}/providers/Microsoft.Authorization/roleAssignments/${fields.name}`;
  const assignment = {
    propagation: 0,
    principalType: "ServicePrincipal",
    createdOn: nowText(),
    ...fields,
    id,
  };
  world.roleAssignments.set(keyOf(id), assignment);
  return assignment;
}

function put(world: World, call: Call): Answer {
  const { properties } = validBody(roleAssignmentBody, call, world.violations);
  const { name = "", scope = "" } = call.params;
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(name))
    throw new Refusal(
      400,
      "InvalidRoleAssignmentId",
      `The role assignment ID '${name}' is not valid. It must be a GUID.`,
    );
  const { roleDefinitionId, principalId } = properties;
  const existing = world.roleAssignments.get(keyOf(call.path));
  if (existing !== undefined) {
    if (existing.principalId !== principalId || role(existing) !== role({ roleDefinitionId })) throw notUpdatable();
    return { status: 200, body: shown(existing) };
  }
  const twin = [...world.roleAssignments.values()].find(
    (one) =>
      one.principalId === principalId && keyOf(one.scope) === keyOf(scope) && role(one) === role({ roleDefinitionId }),
  );
  if (twin !== undefined) throw new Refusal(409, "RoleAssignmentExists", "The role assignment already exists.");
  refuseUnknownPrincipal(world, principalId);
  const propagation = world.settle.rolePropagation;
  const added = addRoleAssignment(world, { name, scope, roleDefinitionId, principalId, propagation });
  return { status: 201, body: shown(added) };
}

function notUpdatable(): Refusal {
  const message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.";
  return new Refusal(400, "RoleAssignmentUpdateNotPermitted", message);
}

function role({ roleDefinitionId }: Pick<RoleAssignment, "roleDefinitionId">): string {
  return nameOf(roleDefinitionId).toLowerCase();
}

/** A principal that was just made isn't known everywhere at once. */
function refuseUnknownPrincipal(world: World, principalId: string): void {
  const identity = [...world.identities.values()].find((one) => one.principalId === principalId);
  if (identity !== undefined && identity.replication === 0) return;
  if (identity !== undefined) identity.replication -= 1;
  throw new Refusal(
    400,
    "PrincipalNotFound",
    `Principal ${principalId.replaceAll("-", "")} does not exist in the directory ${DIRECTORY_ID}. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group.  See https://aka.ms/docs-principaltype`,
  );
}

function find(world: World, { path, params }: Call): RoleAssignment {
  const assignment = world.roleAssignments.get(keyOf(path));
  if (assignment !== undefined) return assignment;
  throw new Refusal(404, "RoleAssignmentNotFound", `The role assignment '${params["name"]}' is not found.`);
}

function remove(world: World, { path }: Call): Answer {
  refuseLocked(world, path);
  const assignment = world.roleAssignments.get(keyOf(path));
  if (assignment === undefined) return { status: 204 };
  world.roleAssignments.delete(keyOf(path));
  return { status: 200, body: shown(assignment) };
}

/** Those at, above and below a scope, unless `$filter` says `atScope()`: then not those below. */
function list(world: World, call: Call): Promise<Answer> {
  const scope = keyOf(call.params["scope"] ?? "");
  const filter = call.query.get("$filter") ?? "";
  const principal = /(?:principalId eq|assignedTo\()\s*'([^']+)'/i.exec(filter)?.[1];
  const found = [...world.roleAssignments].filter(([, one]) => {
    const at = keyOf(one.scope);
    const isAbove = at === scope || scope.startsWith(`${at}/`);
    const isBelow = at.startsWith(`${scope}/`) && !filter.includes("atScope()");
    return (isAbove || isBelow) && (principal === undefined || one.principalId === principal);
  });
  return page(world, call, found, shown);
}

function shown({ id, name, scope, roleDefinitionId, principalId, principalType, createdOn }: RoleAssignment) {
  return {
    id,
    name,
    type: "Microsoft.Authorization/roleAssignments",
    properties: {
      scope,
      roleDefinitionId,
      principalId,
      principalType,
      createdOn,
      updatedOn: createdOn,
      condition: null,
    },
  };
}

const { ofScope } = routesOf("Microsoft.Authorization", "2022-04-01");

export const ROLE_ASSIGNMENT_ROUTES: readonly Route[] = [
  ofScope("PUT", "roleAssignments/{name}", put),
  ofScope("GET", "roleAssignments/{name}", (world, call) => ({ status: 200, body: shown(find(world, call)) })),
  ofScope("DELETE", "roleAssignments/{name}", remove),
  ofScope("GET", "roleAssignments", list),
];
