import { invalidFields, type FieldProblem } from "./refusal.ts";
import { keyOf } from "./resource-id.ts";
import { assignmentsFor, KEY_VAULT_SECRETS_USER, vaultScope } from "./role-assignments.ts";
import type { SecretSetting } from "./schema.ts";
import type { RoleAssignment, World } from "./world.ts";

/** Where a secret's `keyVaultUrl` leads: the vault's address and the secret's name; a version may follow it. */
const SECRET_URL = /^(https:\/\/[^/]+)\/secrets\/([^/]+)(?:\/[^/]+)?\/?$/i;

/**
 * The values of an app's secrets, those of the Key Vault read as the identity that each of them names.
 * @throws Refusal when one can't be read: the identity isn't the app's, has no role in force, or there is no such secret (F50).
 */
export function resolveSecrets(
  world: World,
  settings: readonly SecretSetting[],
  assigned: readonly string[],
): Map<string, string> {
  const values = new Map<string, string>();
  const problems: FieldProblem[] = [];
  const waited = new Set<RoleAssignment>();
  for (const setting of settings) {
    const { name = "", value, identity = "", keyVaultUrl } = setting;
    const found = keyVaultUrl === undefined ? value : readAs(world, { identity, keyVaultUrl, assigned }, waited);
    if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(name)) problems.push(problemWith(name, "its name is invalid"));
    else if (found !== undefined) values.set(name, found);
    else if (keyVaultUrl === undefined) problems.push(problemWith(name, "secret value must be given"));
    else problems.push(unreadable(name, identity));
  }
  // What was refused only for the time that roles take comes nearer to being in force.
  for (const assignment of waited) assignment.propagation -= 1;
  if (problems.length > 0) throw invalidFields(problems);
  return values;
}

function readAs(
  world: World,
  { identity, keyVaultUrl, assigned }: { identity: string; keyVaultUrl: string; assigned: readonly string[] },
  waited: Set<RoleAssignment>,
): string | undefined {
  const reader = world.identities.get(keyOf(identity));
  if (reader === undefined || !assigned.some((one) => keyOf(one) === keyOf(identity))) return undefined;
  const [, vaultUrl = "", name = ""] = SECRET_URL.exec(keyVaultUrl) ?? [];
  const assignments = rolesOn(world, reader.principalId, name, vaultUrl);
  if (assignments.some(({ propagation }) => propagation === 0)) return valueOf(world, name, vaultUrl);
  for (const assignment of assignments) waited.add(assignment);
  return undefined;
}

function valueOf({ vaults }: World, name: string, vaultUrl: string): string | undefined {
  return vaults.find(({ url }) => url.toLowerCase() === vaultUrl.toLowerCase())?.values()[name.toLowerCase()];
}

/** What lets a principal read a secret of a vault, whichever stamps it belongs to; of all vaults unless one is named. */
function rolesOn(world: World, principalId: string, name: string, vaultUrl?: string): RoleAssignment[] {
  return world.stamps
    .filter((stamp) => vaultUrl === undefined || stamp.vaultUrl.toLowerCase() === vaultUrl.toLowerCase())
    .flatMap((stamp) => {
      const scope = `${vaultScope(stamp)}/secrets/${name}`;
      return assignmentsFor(world, { principalId, role: KEY_VAULT_SECRETS_USER, scope });
    });
}

/** Whether a principal may read a secret, in any of the stamps' vaults unless one is named. */
export function mayRead(world: World, principalId: string, secretName: string, vaultUrl?: string): boolean {
  return rolesOn(world, principalId, secretName, vaultUrl).some(({ propagation }) => propagation === 0);
}

function problemWith(name: string, problem: string): FieldProblem {
  return { field: "configuration.secrets", value: name, problem };
}

function unreadable(name: string, identity: string): FieldProblem {
  return problemWith(
    name,
    `Unable to get value using Managed identity ${identity} for secret ${name}. Error: unable to fetch secret '${name}' using Managed identity '${identity}'`,
  );
}
