import { UsageError } from "../../platform/errors.ts";
import { parseTenantId, type TenantId } from "../../platform/ids.ts";

/**
 * Where secrets lie. Names follow Key Vault's rules and are compared without case; a value is never empty. `set` on a
 * name deleted before works at once; `delete` of an absent name is fine.
 */
export type Vault = {
  get(name: string): Promise<string | undefined>;
  set(name: string, value: string): Promise<void>;
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

/** Whose secret that is, by its name or prefix; undefined when it is no tenant's. */
export function tenantOfSecret(name: string): TenantId | undefined {
  const [, id = ""] = /^tenant-([0-9a-f-]{36})-/i.exec(name) ?? [];
  return parseTenantId(id);
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
