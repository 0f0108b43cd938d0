import { hash, randomBytes } from "node:crypto";
import type { Providers } from "../adapters/oauth/oauth-provider.ts";
import { writeAudit } from "../platform/audit.ts";
import { addMs } from "../platform/clock.ts";
import { oauthClientVariables } from "../platform/config.ts";
import { ConfigError, ConflictError, NotFoundError } from "../platform/errors.ts";
import type { ProviderId, TenantId } from "../platform/ids.ts";
import { lockTenant, type Tenant, type TenantsContext } from "../tenants/tenants.ts";
import { insertLink, revokeLinks } from "./link-store.ts";

/** A link token, a state or a nonce: 32 random bytes as 43 characters of base64url. */
export function newToken(): string {
  return randomBytes(32).toString("base64url");
}

export function hashToken(token: string): Buffer {
  return hash("sha256", token, "buffer");
}

/** Whether `text` may be what `newToken` gave. */
export function isToken(text: string): boolean {
  return /^[A-Za-z0-9_-]{43}$/.test(text);
}

/**
 * A new link that offers a tenant's person to connect a provider; it holds until a connection came of it, and older ones of the same
 * tenant and provider no longer do. The token is returned once and kept nowhere.
 * @throws ConflictError when the tenant is deleted or on its way there, ConfigError when there is no client for the provider,
 * NotFoundError for a provider that is not known.
 */
export async function createConnectLink(
  ctx: TenantsContext & { providers: Providers },
  { id: tenantId }: { id: TenantId },
  providerId: ProviderId,
  { validMs }: { validMs: number },
): Promise<{ token: string; expiresAt: Date }> {
  requireClient(ctx.providers, providerId);
  const token = newToken();
  const now = ctx.clock.now();
  const expiresAt = addMs(now, validMs);
  await ctx.db.transaction().execute(async (tx) => {
    requireConnectable(await lockTenant(tx, tenantId));
    await revokeLinks(tx, { tenantId, provider: providerId }, { at: now, as: "replaced" });
    await insertLink(tx, { tokenHash: hashToken(token), tenantId, provider: providerId, createdAt: now, expiresAt });
    await writeAudit(tx, {
      at: now,
      actor: ctx.actor,
      action: "connection.link-created",
      tenantId,
      detail: { provider: providerId },
    });
  });
  return { token, expiresAt };
}

function requireClient(providers: Providers, providerId: ProviderId): void {
  const provider = providers.find(providerId);
  if (provider === undefined)
    throw new NotFoundError("provider_not_found", `No provider "${providerId}". See: openclaw integration providers`);
  if (provider.client !== undefined) return;
  const { name, client } = provider.definition;
  throw new ConfigError("provider_not_configured", [
    `There is no OAuth client for ${name}: set ${oauthClientVariables(client).join(" and ")}. See: openclaw integration providers`,
  ]);
}

/** A tenant that is deleted, or on its way there, keeps its connections as they are. */
export function isConnectable({ status }: Pick<Tenant, "status">): boolean {
  return status !== "deleted" && status !== "deprovisioning";
}

/** @throws ConflictError `tenant_gone`. */
export function requireConnectable({ slug, status }: Tenant): void {
  if (isConnectable({ status })) return;
  throw new ConflictError("tenant_gone", `Tenant ${slug} is ${status}; nothing can be connected to it.`);
}

/** Where a link leads. `publicUrl` has no trailing slash. */
export function connectUrl(publicUrl: string, providerId: ProviderId, token: string): string {
  return `${publicUrl}/oauth/${providerId}/start?link=${token}`;
}

/** Where a provider sends people back to; to be registered with its client. */
export function connectRedirectUri(publicUrl: string, providerId: ProviderId): string {
  return `${publicUrl}/oauth/${providerId}/callback`;
}
