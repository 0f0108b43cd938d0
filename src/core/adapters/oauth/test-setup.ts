import type { TestContext } from "node:test";
import { type Clock, fixedClock } from "../../platform/clock.ts";
import type { ProviderId } from "../../platform/ids.ts";
import {
  LOOPBACK_CLIENT,
  type OAuthProvider,
  type OAuthProviderOptions,
  startOAuthProvider,
} from "../../testing/fakes/oauth/oauth-server.ts";
import { createOAuthClient } from "./oauth-client.ts";
import type { OAuthClient, ProviderDefinition } from "./oauth-provider.ts";

export const NEVER = new AbortController().signal;
export const ASK = {
  redirectUri: "https://bot.example.com/oauth/loopback/callback",
  state: "state-of-one-browser",
  codeVerifier: "verifier-verifier-verifier-verifier-verifier-verifier",
  nonce: "nonce-of-one-consent",
};

/** The definition of a provider on loopback. */
export function definitionOf({ url }: { url: string }, fields: Partial<ProviderDefinition> = {}): ProviderDefinition {
  return {
    id: "loopback" as ProviderId,
    name: "Loopback",
    client: "loopback",
    issuer: url,
    authorizeUrl: `${url}/authorize`,
    tokenUrl: `${url}/token`,
    revokeUrl: `${url}/revoke`,
    apiUrl: `${url}/me`,
    scopes: ["openid", "email", "mail.modify"],
    neededScopes: ["mail.modify"],
    access: ["read your e-mail"],
    authorizeParams: {},
    clientAuth: "post",
    needsRefreshToken: true,
    sharesGrant: false,
    ...fields,
  };
}

/** A provider and our client at it, who share one clock that stands still. */
export async function setUp(
  t: TestContext,
  options: OAuthProviderOptions = {},
  fields: Partial<ProviderDefinition> = {},
) {
  const clock = fixedClock(new Date("2030-05-04T12:00:00Z"));
  const provider = await startOAuthProvider({ clock, ...options });
  t.after(() => provider.close());
  return { clock, provider, ...clientAt(provider, clock, fields) };
}

function clientAt(provider: OAuthProvider, clock: Clock, fields: Partial<ProviderDefinition> = {}) {
  const client = createOAuthClient(definitionOf(provider, fields), LOOPBACK_CLIENT, { clock, timeoutMs: 2_000 });
  return {
    client,
    /** Has the person at the provider decide, and exchanges the code. */
    async connect(decision?: Parameters<OAuthProvider["consent"]>[1]) {
      const back = provider.consent(await client.authorizationUrl(ASK), decision);
      return client.exchange(back.searchParams, ASK, NEVER);
    },
  };
}

const uncalled = () => Promise.reject(new Error("not called here"));
/** For whoever only has to know that there is one. */
export const UNCALLED_CLIENT: OAuthClient = {
  authorizationUrl: uncalled,
  exchange: uncalled,
  refresh: uncalled,
  revoke: uncalled,
  probe: uncalled,
};
