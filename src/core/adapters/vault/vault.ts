import { UsageError } from "../../platform/errors.ts";
import { parseTenantId, type ProviderId, type TenantId } from "../../platform/ids.ts";

/** A value with the vault's own name for it. */
export type SecretVersion = { value: string; version: string };

/**
 * Where secrets lie. Names follow Key Vault's rules and are compared without case; a value is never empty. `set` on a
 * name deleted before works at once; `delete` of an absent name is fine, and takes all versions. Where a vault can only recover a
 * deleted name, the versions of before can be had again by their own names once it is set anew, but are never the newest.
 */
export type Vault = {
  /** The newest value. */
  get(name: string): Promise<string | undefined>;
  /** The same, with its version. */
  getNewest(name: string): Promise<SecretVersion | undefined>;
  /** What `set` wrote then, though others may have written since; the newest few are there for sure. Undefined for any other text. */
  getVersion(name: string, version: string): Promise<string | undefined>;
  /** @returns the version that it wrote. */
  set(name: string, value: string): Promise<string>;
  delete(name: string): Promise<void>;
  /** Names that begin with `prefix`, sorted. */
  list(prefix: string): Promise<string[]>;
};

/** The secrets that a tenant's runtime is given. */
export const TENANT_SECRETS = ["telegram-token", "webhook-secret", "model-key", "gateway-token"] as const;
export type TenantSecret = (typeof TENANT_SECRETS)[number];

export function tenantSecretPrefix(tenantId: TenantId): string {
  return `tenant-${tenantId}-`;
}

/**
 * The name under which a tenant's secret lies; derived from the id, so that two tenants never share one (F72), and from the
 * generation, so that no name ever stands for two values.
 */
export function tenantSecretName(tenantId: TenantId, secret: TenantSecret, generation: number): string {
  const suffix = generation === 1 ? "" : `-g${generation}`;
  return checkSecretName(`${tenantSecretPrefix(tenantId)}${secret}${suffix}`);
}

/** Apart from the tenant's keys: those go with its runtime, while tokens are kept for as long as it may be restored. */
export function connectionSecretPrefix(tenantId: TenantId): string {
  return `connection-${tenantId}-`;
}

/**
 * The name under which the tokens of one consent lie; derived from ids, so that no two ever share one (F72), and none is needed again
 * while a vault keeps it as deleted (F74).
 */
export function connectionSecretName(tenantId: TenantId, provider: ProviderId, grantId: string): string {
  return checkSecretName(`${connectionSecretPrefix(tenantId)}${provider}-${grantId}`);
}

/** Whose secret that is, by its name or prefix; undefined when it is no tenant's. */
export function tenantOfSecret(name: string): TenantId | undefined {
  const [, id = ""] = /^(?:tenant|connection)-([0-9a-f-]{36})-/i.exec(name) ?? [];
  return parseTenantId(id);
}

/** Whether that could name a version; the empty one would mean the newest to Key Vault. */
export function isVersion(version: string): boolean {
  return /^[0-9a-f]{32}$/.test(version);
}

/** The name in the form in which names are compared. @throws UsageError for a name that Key Vault would refuse. */
export function checkSecretName(name: string): string {
  if (!/^[a-z0-9][a-z0-9-]{0,126}$/i.test(name)) {
    throw new UsageError(
      "secret_name_invalid",
      `"${name}" is not a name for a secret: 1 to 127 of letters, digits and "-".`,
    );
  }
  return name.toLowerCase();
}

/** An empty secret would mean "open" somewhere (F92). */
export function checkSecretValue(name: string, value: string): string {
  if (value === "") throw new UsageError("secret_empty", `The secret ${name} must not be empty.`);
  return value;
}
