import type { RoleAssignment } from "@azure/arm-authorization";
import { UpstreamError } from "../../../platform/errors.ts";
import type { TenantId } from "../../../platform/ids.ts";
import { readArmFailure } from "./arm-errors.ts";
import { groupId, isOurs, ownTags, roleAssignmentName, runtimeName, secretScope, secretsUserRoleId } from "./names.ts";
import { foreign, stillThere } from "./refusals.ts";
import { type Errand, ifThere, type StampClient } from "./steps.ts";

type Owner = { tenantId: TenantId; installation: string };

/** The runtime's identity, made if there is none. @returns the id of its principal. */
export async function ensureIdentity(client: StampClient, errand: Errand, owner: Owner): Promise<string> {
  const { stamp, arm } = client;
  const name = runtimeName(owner.tenantId);
  const { identities } = arm;
  const existing = await findIdentity(client, errand, owner);
  if (existing !== undefined) return existing;
  const what = `The identity ${name} could not be made`;
  const made = await client.step(errand, "identity.create", what, async () =>
    (await identities()).userAssignedIdentities.createOrUpdate(stamp.resourceGroup, name, {
      location: stamp.location,
      tags: ownTags(owner.installation, owner.tenantId),
    }),
  );
  if (made.principalId !== undefined && made.principalId !== "") return made.principalId;
  throw new UpstreamError("identity_without_principal", `${what}: Azure tells no principal of it.`, {
    service: "azure",
    retryable: true,
  });
}

/** @throws ConflictError when there is one with its name that is not ours. */
async function findIdentity(client: StampClient, errand: Errand, owner: Owner): Promise<string | undefined> {
  const { stamp, arm } = client;
  const name = runtimeName(owner.tenantId);
  const found = await client.look(errand, `The identity ${name} could not be read`, () =>
    ifThere(async () => (await arm.identities()).userAssignedIdentities.get(stamp.resourceGroup, name)),
  );
  if (found === undefined) return undefined;
  if (!isOurs(found.tags, owner.installation)) throw foreign(`The identity ${name}`);
  return found.principalId;
}

/**
 * Gives the principal the right to read each of `secretNames`; Azure brings it into force within minutes (F50).
 * @returns what else it may do on the stamp, such as read the keys from before a rotation: that is taken away once nothing needs it.
 */
export async function ensureRoles(
  client: StampClient,
  errand: Errand,
  principalId: string,
  secretNames: readonly string[],
): Promise<RoleAssignment[]> {
  const { stamp } = client;
  const roleId = secretsUserRoleId(stamp);
  const existing = await listRoles(client, errand, principalId);
  const wanted = new Map(secretNames.map((name) => [secretScope(stamp, name).toLowerCase(), secretScope(stamp, name)]));
  for (const [key, scope] of wanted) {
    if (existing.some((role) => isFor(role, key, roleId))) continue;
    await assignRole(client, errand, { scope, roleId, principalId });
  }
  return existing.filter(({ scope = "" }) => !wanted.has(scope.toLowerCase()));
}

/** What a runtime may read is exactly its own, and only what it uses (F94). */
export async function takeRoles(client: StampClient, errand: Errand, roles: readonly RoleAssignment[]): Promise<void> {
  for (const role of roles) await takeRole(client, errand, role);
}

function isFor(role: RoleAssignment, scope: string, roleId: string): boolean {
  return role.scope?.toLowerCase() === scope && role.roleDefinitionId?.toLowerCase() === roleId.toLowerCase();
}

async function listRoles(client: StampClient, errand: Errand, principalId: string): Promise<RoleAssignment[]> {
  const { stamp, arm } = client;
  return client.look(errand, `The roles of the principal ${principalId} could not be listed`, async () => {
    const roles: RoleAssignment[] = [];
    const { roleAssignments } = await arm.authorization();
    const filter = `principalId eq '${principalId}'`;
    for await (const role of roleAssignments.listForResourceGroup(stamp.resourceGroup, { filter })) {
      // The filter also finds what the principal has by groups.
      if (role.principalId?.toLowerCase() === principalId.toLowerCase()) roles.push(role);
    }
    return roles.filter(({ scope }) => scope?.toLowerCase().startsWith(groupId(stamp).toLowerCase()));
  });
}

async function assignRole(
  client: StampClient,
  errand: Errand,
  { scope, roleId, principalId }: { scope: string; roleId: string; principalId: string },
): Promise<void> {
  const secret = scope.slice(scope.lastIndexOf("/") + 1);
  await client.step(errand, "role.assign", `The right to read ${secret} could not be given`, async () => {
    try {
      const { roleAssignments } = await client.arm.authorization();
      await roleAssignments.create(scope, roleAssignmentName(scope, principalId, roleId), {
        roleDefinitionId: roleId,
        principalId,
        // Azure then does not look the principal up, which may not have spread yet (F50).
        principalType: "ServicePrincipal",
      });
    } catch (error) {
      // Under another name: it is there, which is all that counts (F29).
      if (readArmFailure(error).code !== "RoleAssignmentExists") throw error;
    }
  });
}

async function takeRole(client: StampClient, errand: Errand, { id = "", scope = "" }: RoleAssignment): Promise<void> {
  const secret = scope.slice(scope.lastIndexOf("/") + 1);
  await client.step(errand, "role.remove", `The right to read ${secret} could not be taken away`, async () => {
    await ifThere(async () => (await client.arm.authorization()).roleAssignments.deleteById(id));
  });
}

/**
 * Removes the identity with every right it has, and reads back that they are gone (F97). `knownPrincipalId` finds the rights of an
 * identity that somebody else has removed: Azure keeps them.
 */
export async function removeIdentity(
  client: StampClient,
  errand: Errand,
  owner: Owner,
  knownPrincipalId: string | undefined,
): Promise<void> {
  const { stamp, arm } = client;
  const name = runtimeName(owner.tenantId);
  const current = await findIdentity(client, errand, owner);
  for (const principalId of new Set([current, knownPrincipalId])) {
    if (principalId !== undefined) await removeRoles(client, errand, principalId);
  }
  if (current === undefined) return;
  await client.step(errand, "identity.remove", `The identity ${name} could not be removed`, async () => {
    await (await arm.identities()).userAssignedIdentities.delete(stamp.resourceGroup, name);
  });
  if ((await findIdentity(client, errand, owner)) !== undefined) throw stillThere(`The identity ${name}`);
}

async function removeRoles(client: StampClient, errand: Errand, principalId: string): Promise<void> {
  const roles = await listRoles(client, errand, principalId);
  if (roles.length === 0) return;
  await takeRoles(client, errand, roles);
  const left = await listRoles(client, errand, principalId);
  if (left.length > 0) throw stillThere(`${left.length} role assignments of the principal ${principalId}`);
}
