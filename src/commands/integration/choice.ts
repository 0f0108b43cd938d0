import type { Command } from "commander";
import type { Providers } from "../../core/adapters/oauth/oauth-provider.ts";
import { type ConnectionView, viewConnections } from "../../core/integrations/integrations.ts";
import type { Clock } from "../../core/platform/clock.ts";
import type { Db } from "../../core/platform/db.ts";
import { NotFoundError, UsageError } from "../../core/platform/errors.ts";
import type { Tenant } from "../../core/tenants/tenants.ts";
import { collect } from "../tenant/options.ts";
import { selectTenants, type TenantSelectors, withTenantSelectors } from "../tenant/selection.ts";

type ChoiceContext = { db: Db; clock: Clock; providers: Providers };

export type Choice = {
  connections: readonly ConnectionView[];
  /** The one tenant that was named; undefined: all that match were chosen. */
  tenant: Tenant | undefined;
  /** Providers that were named and that this tenant was never connected to. */
  absent: readonly string[];
};

/** Adds arguments and options by which connections are chosen: one tenant's, or those of many. */
export function withConnectionChoice(command: Command): Command {
  command
    .argument("[tenant]", "slug or id")
    .argument("[providers...]", "which of the tenant's; left out: all that it is connected to");
  return withTenantSelectors(command).option("--provider <provider>", "only of this one; may be repeated", collect);
}

/**
 * The connections that are meant.
 * @throws NotFoundError for an unknown tenant or provider, UsageError unless tenants are chosen in exactly one way.
 */
export async function chooseConnections(
  ctx: ChoiceContext,
  reference: string | undefined,
  providers: readonly string[],
  selectors: TenantSelectors,
): Promise<Choice> {
  const isMany = Object.keys(selectors).length > 0;
  if ((reference !== undefined) === isMany) {
    const how = "Give either a tenant with its providers, or some of --status, --tier and --tag, or --all";
    const hint = reference === undefined ? "" : `, and then providers as --provider ${reference}`;
    throw new UsageError("selection_unclear", `${how}${hint}.`);
  }
  const tenants = await selectTenants(ctx.db, reference === undefined ? [] : [reference], selectors);
  const all = await viewConnections(ctx, tenants);
  const connections = ofProviders(ctx.providers, all, providers);
  const [tenant] = reference === undefined ? [] : tenants;
  const absent = providers.filter((name) => !connections.some(({ provider }) => provider === name));
  return { connections, tenant, absent: tenant === undefined ? [] : absent };
}

/** Those of `wanted`, or all when none is. @throws NotFoundError for a provider that is neither defined nor connected. */
export function ofProviders(
  providers: Providers,
  connections: readonly ConnectionView[],
  wanted: readonly string[],
): readonly ConnectionView[] {
  const isKnown = (name: string) =>
    providers.find(name) !== undefined || connections.some(({ provider }) => provider === name);
  const unknown = wanted.find((name) => !isKnown(name));
  if (unknown !== undefined) throw providerNotFound(unknown, providers);
  return wanted.length === 0 ? connections : connections.filter(({ provider }) => wanted.includes(provider));
}

export function providerNotFound(name: string, providers: Providers): NotFoundError {
  const known = providers.list().map(({ definition }) => definition.id);
  return new NotFoundError("provider_not_found", `No provider "${name}"; there are ${known.join(", ")}.`);
}

export function connectionNotFound(slug: string, provider: string): NotFoundError {
  const remedy = `Connect it with: openclaw integration connect ${slug} ${provider}`;
  return new NotFoundError("connection_not_found", `${slug} was never connected to ${provider}. ${remedy}`);
}
