import type { Provider, ProviderDefinition } from "../adapters/oauth/oauth-provider.ts";
import type { ProviderId } from "../platform/ids.ts";
import { findTenantById, type Tenant } from "../tenants/tenants.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { hashToken, isConnectable, isToken } from "./connect-links.ts";
import type { OfferRefusal } from "./connect-refusals.ts";
import { type ConnectLink, findLink } from "./link-store.ts";
import { find } from "./store.ts";

/** What a person is asked to agree to, before the provider asks for itself. */
export type Offer = {
  provider: ProviderDefinition;
  /** Whose assistant gets the access. */
  tenantName: string;
  /** The connection that would be replaced. */
  replaces: { accountEmail: string | null } | undefined;
};

/** A provider that people can be sent to. */
export type ReadyProvider = { definition: ProviderDefinition; client: NonNullable<Provider["client"]> };

export function findReadyProvider(ctx: IntegrationsContext, providerId: string): ReadyProvider | OfferRefusal {
  const provider = ctx.providers.find(providerId);
  if (provider === undefined) return { kind: "unknown-provider" };
  const { definition, client } = provider;
  return client === undefined ? { kind: "not-configured", provider: definition } : { definition, client };
}

/** What the link offers. It may be looked at as often as anybody likes: nothing changes by it. */
export async function findOffer(
  ctx: IntegrationsContext,
  providerId: ProviderId,
  token: string,
): Promise<{ kind: "offer"; offer: Offer } | OfferRefusal> {
  const provider = findReadyProvider(ctx, providerId);
  if ("kind" in provider) return provider;
  const opened = await openLink(ctx, providerId, token);
  if (opened.kind !== "open") return opened;
  const { tenant } = opened;
  const present = await find(ctx.db, { tenantId: tenant.id, provider: providerId });
  const replaces =
    present === undefined || present.state === "revoked" ? undefined : { accountEmail: present.accountEmail };
  return { kind: "offer", offer: { provider: provider.definition, tenantName: tenant.displayName, replaces } };
}

/** The link behind a token, if it still holds, and whose it is. */
export async function openLink(
  ctx: IntegrationsContext,
  providerId: ProviderId,
  token: string,
): Promise<{ kind: "open"; link: ConnectLink; tenant: Tenant } | OfferRefusal> {
  const link = isToken(token) ? await findLink(ctx.db, hashToken(token)) : undefined;
  // That there is such a link for another provider is nobody's business.
  if (link === undefined || link.provider !== providerId) return { kind: "link-unknown" };
  const end = endOf(link);
  if (end !== undefined) return end;
  if (link.expiresAt <= ctx.clock.now()) return { kind: "link-expired" };
  const tenant = await findTenantById(ctx.db, link.tenantId);
  if (tenant === undefined || !isConnectable(tenant)) return { kind: "tenant-gone" };
  return { kind: "open", link, tenant };
}

/** What ended a link before its time. */
export function endOf({ usedAt, revokedAt, revokedAs }: ConnectLink): OfferRefusal | undefined {
  if (usedAt !== null) return { kind: "link-used" };
  if (revokedAt === null) return undefined;
  return { kind: revokedAs === "disconnected" ? "link-ended" : "link-replaced" };
}
