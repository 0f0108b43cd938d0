import { createHash } from "node:crypto";
import type { Stamp } from "../../../platform/config.ts";
import { parseTenantId, type TenantId } from "../../../platform/ids.ts";

/** One share a stamp holds the state of all its runtimes, and the environment knows it under the same name. */
export const STATE_SHARE = "openclaw-state";
/** The job that makes and removes folders on it. */
export const STATE_JOB = "openclaw-state";
/** The identity that pulls images for all runtimes of a stamp; whoever sets the stamp up gives it AcrPull, once. */
export const PULL_IDENTITY = "openclaw-pull";

const KEY_VAULT_SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6";
const TAG_INSTALLATION = "openclaw-installation";
const TAG_TENANT = "openclaw-tenant";
const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

export type Tags = Readonly<Record<string, string>>;

/**
 * The name of a tenant's container app and of its identity: `oc-` and the id's 128 bits in base 32. 29 of the 32 characters that
 * Azure allows, never two alike, no `--`, and it leaves a revision's label (63) room for a suffix.
 */
export function runtimeName(tenantId: TenantId): string {
  let bits = BigInt(`0x${tenantId.replaceAll("-", "")}`) << 2n;
  let text = "";
  for (let digit = 0; digit < 26; digit += 1) {
    text = BASE32.charAt(Number(bits & 31n)) + text;
    bits >>= 5n;
  }
  return `oc-${text}`;
}

/** Part of a revision's suffix: which spec it is made of. */
function suffixPrefix(specHash: string): string {
  return `r${specHash.slice(0, 10)}`;
}

/** Whether a revision with that suffix was made of the spec. */
export function isMadeOf(specHash: string, suffix: string | undefined): boolean {
  return suffix?.toLowerCase().startsWith(`${suffixPrefix(specHash)}-`) ?? false;
}

/**
 * The suffix of a tenant's `nth` revision. Azure never takes a name twice, not even after the revision is gone from its list (F35), so
 * that the number goes on for the life of the runtime.
 */
export function suffixOf(specHash: string, nth: number): string {
  return `${suffixPrefix(specHash)}-${nth}`;
}

/** Whether we gave it, to whatever revision. */
export function isOurSuffix(suffix: string | undefined): boolean {
  return /^r[0-9a-f]{10}-\d+$/i.test(suffix ?? "");
}

export function groupId({ subscriptionId, resourceGroup }: Stamp): string {
  return `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}`;
}

/** The environment's own group, which need not be the stamp's, and its name. */
export function environmentOf({ environmentId }: Pick<Stamp, "environmentId">): { group: string; name: string } {
  const [, group = "", name = ""] = /\/resourceGroups\/([^/]+)\/.*\/([^/]+)$/i.exec(environmentId) ?? [];
  return { group, name };
}

export function identityId(stamp: Stamp, name: string): string {
  return `${groupId(stamp)}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/${name}`;
}

/** The scope of a role on one secret alone (F94). */
export function secretScope(stamp: Stamp, secretName: string): string {
  return `${groupId(stamp)}/providers/Microsoft.KeyVault/vaults/${stamp.vaultName}/secrets/${secretName}`;
}

export function secretsUserRoleId({ subscriptionId }: Stamp): string {
  return `/subscriptions/${subscriptionId}/providers/Microsoft.Authorization/roleDefinitions/${KEY_VAULT_SECRETS_USER}`;
}

/**
 * The name of a role assignment: the same for the same scope, principal and role, so that giving it twice gives it once (F29). An
 * identity made anew has another principal, to which an assignment can't be moved.
 */
export function roleAssignmentName(scope: string, principalId: string, roleId: string): string {
  const digest = createHash("sha256").update(`${scope}|${principalId}|${roleId}`.toLowerCase()).digest("hex");
  // Version 8: a UUID of our own making.
  const [a, b, c, d, e] = [
    digest.slice(0, 8),
    digest.slice(8, 12),
    digest.slice(13, 16),
    digest.slice(17, 20),
    digest.slice(20, 32),
  ];
  return `${a}-${b}-8${c}-8${d}-${e}`;
}

/** What is ours bears this control plane's mark; nothing else is ever touched. */
export function ownTags(installation: string, tenantId?: TenantId): Tags {
  return { [TAG_INSTALLATION]: installation, ...(tenantId === undefined ? {} : { [TAG_TENANT]: tenantId }) };
}

export function isOurs(tags: Partial<Tags> | undefined, installation: string): boolean {
  return tags?.[TAG_INSTALLATION]?.toLowerCase() === installation.toLowerCase();
}

export function tenantOf(tags: Partial<Tags> | undefined): TenantId | undefined {
  return parseTenantId(tags?.[TAG_TENANT] ?? "");
}
