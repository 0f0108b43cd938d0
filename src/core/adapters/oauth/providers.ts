import type { Config, OAuthClientSecrets, Secrets } from "../../platform/config.ts";
import { BUILT_IN_PROVIDERS } from "./built-in-providers.ts";
import type { OAuthClientOptions } from "./oauth-client.ts";
import type { OAuthClient, Provider, ProviderDefinition, Providers } from "./oauth-provider.ts";
import { readDefinitions } from "./provider-file.ts";

type Settings = { config: Pick<Config, "providersFile">; secrets: Pick<Secrets, "oauthClients"> };

/**
 * The built-in providers with those of `OPENCLAW_PROVIDERS_FILE` over and beside them, each with its client if one is configured.
 * @throws ConfigError naming every mistake in the file.
 */
export async function readProviders(
  { config, secrets }: Settings,
  options: OAuthClientOptions = {},
): Promise<Providers> {
  const definitions = await readDefinitions(BUILT_IN_PROVIDERS, config.providersFile);
  const providers = definitions
    .map((definition): Provider => {
      const own = secrets.oauthClients[definition.client];
      return { definition, client: own === undefined ? undefined : openWhenUsed(definition, own, options) };
    })
    .toSorted((one, other) => (one.definition.id < other.definition.id ? -1 : 1));
  const byId = new Map<string, Provider>(providers.map((provider) => [provider.definition.id, provider]));
  return { list: () => providers, find: (id) => byId.get(id) };
}

/** What it takes to speak with providers is loaded by those who do. */
function openWhenUsed(
  definition: ProviderDefinition,
  secrets: OAuthClientSecrets,
  options: OAuthClientOptions,
): OAuthClient {
  const open = async () => {
    const { createOAuthClient } = await import("./oauth-client.ts");
    return createOAuthClient(definition, secrets, options);
  };
  return {
    authorizationUrl: async (ask) => (await open()).authorizationUrl(ask),
    exchange: async (answer, ask, signal) => (await open()).exchange(answer, ask, signal),
    refresh: async (refreshToken, signal) => (await open()).refresh(refreshToken, signal),
    revoke: async (token, signal) => (await open()).revoke(token, signal),
    probe: async (signal) => (await open()).probe(signal),
  };
}
