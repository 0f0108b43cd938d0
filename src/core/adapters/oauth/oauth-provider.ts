import type { ProviderId } from "../../platform/ids.ts";

/** What is known of a provider, whether or not there is a client for it. URLs are https, or http on loopback. */
export type ProviderDefinition = Readonly<{
  id: ProviderId;
  /** For people, such as `Gmail`. */
  name: string;
  /** Whose client is used: `google` reads `GOOGLE_CLIENT_ID` and `GOOGLE_CLIENT_SECRET`. Providers may share one. */
  client: string;
  /** Of its id tokens and authorization answers; undefined: it gives no id tokens. */
  issuer: string | undefined;
  authorizeUrl: string;
  tokenUrl: string;
  /** Undefined: a grant can't be revoked but by its person. */
  revokeUrl: string | undefined;
  /** Where its API begins, for whoever uses a token; undefined: that is for them to know. */
  apiUrl: string | undefined;
  /** All that is asked for; without one of `neededScopes` a connection is useless. */
  scopes: readonly string[];
  neededScopes: readonly string[];
  /** What that lets the assistant do, in words, such as `read, sort and send your e-mail`. */
  access: readonly string[];
  /** Further parameters of the authorization request. */
  authorizeParams: Readonly<Record<string, string>>;
  clientAuth: "post" | "basic" | "none";
  /** False: access tokens that can't be renewed are taken, too. */
  needsRefreshToken: boolean;
  /** All consents of an account to the client are one grant, and revoking one token ends it for all; false: each is its own. */
  sharesGrant: boolean;
}>;

export type Provider = Readonly<{
  definition: ProviderDefinition;
  /** Undefined: no client is configured for it. */
  client: OAuthClient | undefined;
}>;

export type Providers = Readonly<{
  /** Sorted by id. */
  list(): readonly Provider[];
  find(id: string): Provider | undefined;
}>;

export type TokenReply = Readonly<{
  accessToken: string;
  /** Undefined: not said. */
  expiresInSeconds: number | undefined;
  /** Undefined: the one before goes on. */
  refreshToken: string | undefined;
  /** As canonical names; undefined: as they were asked for. */
  scopes: readonly string[] | undefined;
}>;

/** From an id token whose issuer, audience, expiry and nonce were checked. `email` only when the provider has verified it. */
export type Account = Readonly<{ subject: string; email: string | undefined }>;

/**
 * How a provider refuses. `denied`: the person or the provider's rules said no to the consent. `dead`: the grant is over and only a new
 * consent helps. `client`: our client, not the person's grant, is refused. `unavailable`: it may pass.
 */
export type Refusal =
  | Readonly<{ kind: "denied"; code: string }>
  | Readonly<{ kind: "dead"; code: "invalid_grant" | "reauth_required" }>
  | Readonly<{ kind: "client"; code: string }>
  | Readonly<{ kind: "unavailable"; code: string; retryAfterMs: number | undefined }>;

export type RefreshResult = Readonly<{ kind: "granted"; reply: TokenReply }> | Exclude<Refusal, { kind: "denied" }>;

export type ExchangeResult =
  | Readonly<{ kind: "granted"; reply: TokenReply; account: Account | undefined }>
  /** The answer is not one to our question. */
  | Readonly<{ kind: "foreign"; code: string }>
  /** The id token is not one to our question; what came with it is to be given back. */
  | Readonly<{ kind: "misgranted"; code: string; reply: TokenReply }>
  | Refusal;

/** `revoked`: it is over, whether it was so before or not. */
export type RevokeResult = Readonly<{ kind: "revoked" }> | Exclude<Refusal, { kind: "denied" | "dead" }>;

/**
 * What one client does at one provider. Nothing is retried here. Codes are from a closed list: the provider's where they are
 * well-known, else ours (`unreachable`, `connection_lost`, `timeout`, `malformed_reply`, `redirected`, `rate_limited`,
 * `server_error`, `unknown_refusal`, `no_access_token`, `wrong_token_type`, `no_revocation`, `foreign_answer`, `foreign_id_token`);
 * never its words. A signal counts until the request goes out, and then the call rejects with its reason: what was sent takes
 * effect, so its answer is waited for, 10 s at most.
 */
export type OAuthClient = Readonly<{
  /** With PKCE S256 for `codeVerifier`. `nonce` comes back in the id token. */
  authorizationUrl(ask: { redirectUri: string; state: string; codeVerifier: string; nonce: string }): Promise<URL>;
  /** `answer`: the parameters with which the browser came back, whose `state` is the one that was asked with. */
  exchange(
    answer: URLSearchParams,
    ask: { redirectUri: string; state: string; codeVerifier: string; nonce: string },
    signal: AbortSignal,
  ): Promise<ExchangeResult>;
  refresh(refreshToken: string, signal: AbortSignal): Promise<RefreshResult>;
  revoke(token: string, signal: AbortSignal): Promise<RevokeResult>;
  /** Whether the provider takes this client, found out with a token that nobody has. */
  probe(signal: AbortSignal): Promise<Readonly<{ kind: "accepted" }> | Exclude<Refusal, { kind: "denied" | "dead" }>>;
}>;
