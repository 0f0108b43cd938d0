import { randomBytes } from "node:crypto";
import * as oauth from "oauth4webapi";
import { type Clock, systemClock } from "../../platform/clock.ts";
import type { OAuthClientSecrets } from "../../platform/config.ts";
import { type AuthorizationAsk, readAnswer } from "./authorization-answer.ts";
import type { Dealings } from "./dealings.ts";
import { checkIdToken } from "./id-token.ts";
import { isLoopback } from "../../platform/loopback-url.ts";
import type {
  ExchangeResult,
  OAuthClient,
  ProviderDefinition,
  Refusal,
  RefreshResult,
  RevokeResult,
} from "./oauth-provider.ts";
import { classifyRefusal, type EndpointRefusal, errorOf, type Reply, unavailable } from "./refusals.ts";
import { type GrantedTokens, readTokens } from "./token-reply.ts";
import { NoReply, post } from "./transport.ts";

export type OAuthClientOptions = { clock?: Clock; timeoutMs?: number };

const TIMEOUT_MS = 10_000;

/**
 * The client that a provider knows by `secrets`. Every call is over in `timeoutMs`. Its signal counts until the request goes out,
 * and then the call rejects with its reason: what has been sent takes effect, so that answer is waited for. A refresh token that
 * was spent, and whose successor nobody read, would end the connection (F76).
 */
export function createOAuthClient(
  definition: ProviderDefinition,
  secrets: OAuthClientSecrets,
  { clock = systemClock, timeoutMs = TIMEOUT_MS }: OAuthClientOptions = {},
): OAuthClient {
  const dealings = {
    definition,
    server: serverOf(definition),
    client: { client_id: secrets.id },
    clientAuth: clientAuthOf(definition, secrets),
    clock,
    timeoutMs,
  };
  return {
    authorizationUrl: (ask) => authorizationUrl(dealings, ask),
    exchange: (answer, ask, signal) => exchange(dealings, answer, ask, signal),
    refresh: (refreshToken, signal) => refresh(dealings, refreshToken, signal),
    revoke: (token, signal) => revoke(dealings, token, signal),
    probe: (signal) => probe(dealings, signal),
  };
}

function serverOf({ issuer, authorizeUrl, tokenUrl, revokeUrl }: ProviderDefinition): oauth.AuthorizationServer {
  return {
    // Whoever is not known by another name is known by the place of its door.
    issuer: issuer ?? new URL(authorizeUrl).origin,
    authorization_endpoint: authorizeUrl,
    token_endpoint: tokenUrl,
    ...(revokeUrl === undefined ? {} : { revocation_endpoint: revokeUrl }),
  };
}

function clientAuthOf({ clientAuth }: ProviderDefinition, { secret }: OAuthClientSecrets): oauth.ClientAuth {
  if (secret === undefined || clientAuth === "none") return oauth.None();
  return clientAuth === "basic" ? oauth.ClientSecretBasic(secret) : oauth.ClientSecretPost(secret);
}

async function authorizationUrl({ definition, client }: Dealings, ask: AuthorizationAsk): Promise<URL> {
  const url = new URL(definition.authorizeUrl);
  const own = {
    response_type: "code",
    client_id: client.client_id,
    redirect_uri: ask.redirectUri,
    scope: definition.scopes.join(" "),
    state: ask.state,
    code_challenge: await oauth.calculatePKCECodeChallenge(ask.codeVerifier),
    code_challenge_method: "S256",
    // Without OpenID Connect there is nothing that it could come back in.
    ...(definition.scopes.includes("openid") ? { nonce: ask.nonce } : {}),
  };
  for (const [name, value] of Object.entries({ ...definition.authorizeParams, ...own }))
    url.searchParams.set(name, value);
  return url;
}

async function exchange(
  dealings: Dealings,
  answer: URLSearchParams,
  ask: AuthorizationAsk,
  signal: AbortSignal,
): Promise<ExchangeResult> {
  const { server, client, clientAuth } = dealings;
  const read = readAnswer(dealings, answer, ask.state);
  if (read.kind !== "code") return read;
  const result = await askForTokens(dealings, signal, (options) =>
    oauth.authorizationCodeGrantRequest(
      server,
      client,
      clientAuth,
      read.parameters,
      ask.redirectUri,
      ask.codeVerifier,
      options,
    ),
  );
  if (result.kind !== "granted") return result;
  const account = await checkIdToken(dealings, result.tokens.idToken, ask.nonce);
  const { reply } = result.tokens;
  if (account === "foreign") return { kind: "misgranted", code: "foreign_id_token", reply };
  return { kind: "granted", reply, account };
}

async function refresh(dealings: Dealings, refreshToken: string, signal: AbortSignal): Promise<RefreshResult> {
  const { server, client, clientAuth } = dealings;
  const result = await askForTokens(dealings, signal, (options) =>
    oauth.refreshTokenGrantRequest(server, client, clientAuth, refreshToken, options),
  );
  return result.kind === "granted" ? { kind: "granted", reply: result.tokens.reply } : result;
}

/** With a refresh token that nobody has: what it says of that shows that it took the client. */
async function probe(dealings: Dealings, signal: AbortSignal) {
  const result = await refresh(dealings, `probe-${randomBytes(24).toString("base64url")}`, signal);
  return result.kind === "granted" || result.kind === "dead" ? ({ kind: "accepted" } as const) : result;
}

async function revoke(dealings: Dealings, token: string, signal: AbortSignal): Promise<RevokeResult> {
  const { server, client, clientAuth, clock, definition } = dealings;
  if (definition.revokeUrl === undefined) return unavailable("no_revocation");
  const reply = await send(dealings, definition.revokeUrl, signal, (options) =>
    oauth.revocationRequest(server, client, clientAuth, token, options),
  );
  if ("kind" in reply) return reply;
  const error = errorOf(reply);
  if (isSuccess(reply) && error === undefined) return { kind: "revoked" };
  // RFC 7009 wants a 200 for a token that is not known; Google says this (F77).
  if (reply.status === 400 && error === "invalid_token") return { kind: "revoked" };
  const refusal = classifyRefusal(reply, clock.now());
  // What is said of grants elsewhere means here that there is none any more.
  return refusal.kind === "dead" ? { kind: "revoked" } : refusal;
}

type RequestOptions = oauth.TokenEndpointRequestOptions & oauth.RevocationRequestOptions;
type Sending = (options: RequestOptions) => Promise<Response>;

async function askForTokens(
  dealings: Dealings,
  signal: AbortSignal,
  sending: Sending,
): Promise<{ kind: "granted"; tokens: GrantedTokens } | EndpointRefusal> {
  const reply = await send(dealings, dealings.definition.tokenUrl, signal, sending);
  if ("kind" in reply) return reply;
  // Some report an error as a success.
  if (!isSuccess(reply) || reply.body === undefined || errorOf(reply) !== undefined)
    return classifyRefusal(reply, dealings.clock.now());
  const tokens = readTokens(reply.body);
  return typeof tokens === "string" ? unavailable(tokens) : { kind: "granted", tokens };
}

async function send(
  { timeoutMs }: Dealings,
  endpoint: string,
  signal: AbortSignal,
  sending: Sending,
): Promise<Reply | Extract<Refusal, { kind: "unavailable" }>> {
  try {
    const response = await sending({
      [oauth.allowInsecureRequests]: isLoopback(new URL(endpoint)),
      [oauth.customFetch]: (
        url: string,
        { headers, body }: { headers: Record<string, string>; body: URLSearchParams },
      ) => {
        signal.throwIfAborted();
        return post({ url, headers, body, timeoutMs });
      },
    });
    const body = parseObject(await response.text());
    return { status: response.status, retryAfter: response.headers.get("retry-after"), body };
  } catch (error) {
    // To translate: that there was no answer is one for whoever asked.
    if (error instanceof NoReply) return unavailable(error.code);
    throw error;
  }
}

function isSuccess({ status }: Reply): boolean {
  return status >= 200 && status < 300;
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    // Not JSON: a page of a proxy's, or half an answer.
    return undefined;
  }
}
