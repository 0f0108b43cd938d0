import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { addMs, type Clock } from "../../../platform/clock.ts";
import type { ConsentAsk } from "./consent.ts";
import { json, type WireReply } from "./faults.ts";
import type { Grant, Grants, Issued } from "./grants.ts";
import { type Claims, claimsOf, signIdToken } from "./id-tokens.ts";

/** A client without a secret is a public one. */
export type RegisteredClient = {
  id: string;
  secret: string | undefined;
  /** Undefined: any. */
  redirectUris: readonly string[] | undefined;
};

type Code = { grant: Grant; ask: ConsentAsk; scopes: string[]; isNew: boolean; issuedAt: Date; isSpent: boolean };

/** Where the codes lie between consent and exchange, and how claims are altered before they are signed. */
export type Desk = {
  grants: Grants;
  clients: Map<string, RegisteredClient>;
  codes: Map<string, Code>;
  clock: Clock;
  issuer: () => string;
  isGoogle: boolean;
  accessTokenSeconds: number;
  /** Takes the alteration of the next id token. */
  takeAlteration: () => ((claims: Claims) => Claims | undefined) | undefined;
};

const CODE_LIFE_MS = 60_000;

/** The client of a request, by whichever of its ways it came; undefined: none that is known by that secret. */
export function authenticate(
  desk: Desk,
  headers: IncomingHttpHeaders,
  form: URLSearchParams,
): RegisteredClient | undefined {
  const [, encoded] = /^Basic (.+)$/i.exec(headers.authorization ?? "") ?? [];
  const basic =
    encoded === undefined ? undefined : Buffer.from(encoded, "base64").toString().split(":").map(formDecode);
  const [id, secret] = basic ?? [form.get("client_id") ?? "", form.get("client_secret") ?? undefined];
  const client = desk.clients.get(id ?? "");
  return client !== undefined && client.secret === secret ? client : undefined;
}

export const INVALID_CLIENT = json(401, {
  error: "invalid_client",
  error_description: "There is no client of that id and secret.",
});

export function answerToken(desk: Desk, client: RegisteredClient, form: URLSearchParams): WireReply {
  switch (form.get("grant_type")) {
    case "authorization_code":
      return exchangeCode(desk, client, form);
    case "refresh_token":
      return refresh(desk, client, form);
    default:
      return json(400, { error: "unsupported_grant_type" });
  }
}

export function answerRevoke(desk: Desk, client: RegisteredClient | undefined, form: URLSearchParams): WireReply {
  if (client === undefined) return INVALID_CLIENT;
  const isKnown = desk.grants.revoke(form.get("token") ?? "", client.id);
  // RFC 7009 has nothing to complain of; Google does.
  if (isKnown || !desk.isGoogle) return json(200, {});
  return json(400, { error: "invalid_token", error_description: "It is expired or was revoked." });
}

function refresh({ grants, ...desk }: Desk, client: RegisteredClient, form: URLSearchParams): WireReply {
  const token = form.get("refresh_token") ?? "";
  if (token === "") return json(400, { error: "invalid_request", error_description: "There is no refresh_token." });
  const issued = grants.refresh(token, client.id);
  return issued === undefined ? deadGrant() : json(200, tokenBody(desk, issued));
}

function exchangeCode(desk: Desk, client: RegisteredClient, form: URLSearchParams): WireReply {
  const code = desk.codes.get(form.get("code") ?? "");
  if (code === undefined || code.ask.clientId !== client.id) return deadGrant();
  if (code.isSpent) {
    desk.grants.end(code.grant);
    return deadGrant();
  }
  code.isSpent = true;
  const verifier = form.get("code_verifier") ?? "";
  const challenge = createHash("sha256").update(verifier).digest("base64url");
  const isLate = addMs(code.issuedAt, CODE_LIFE_MS) <= desk.clock.now();
  if (isLate || challenge !== code.ask.challenge || form.get("redirect_uri") !== code.ask.redirectUri)
    return deadGrant();
  const withRefreshToken = !desk.isGoogle || (code.ask.isOffline && (code.isNew || code.ask.isPrompted));
  const issued = desk.grants.issue(code.grant, code.scopes, { withRefreshToken });
  const idToken = idTokenOf(desk, code);
  return json(200, { ...tokenBody(desk, issued), ...(idToken === undefined ? {} : { id_token: idToken }) });
}

function idTokenOf(desk: Desk, { ask, grant, scopes }: Code): string | undefined {
  if (!scopes.includes("openid")) return undefined;
  const about = { issuer: desk.issuer(), clientId: ask.clientId, nonce: ask.nonce };
  const claims = claimsOf(grant.person, about, desk.clock);
  const alter = desk.takeAlteration();
  const altered = alter === undefined ? claims : alter(claims);
  return altered === undefined ? undefined : signIdToken(altered);
}

function tokenBody(desk: Pick<Desk, "accessTokenSeconds" | "isGoogle">, issued: Issued) {
  return {
    access_token: issued.accessToken,
    expires_in: desk.accessTokenSeconds,
    token_type: "Bearer",
    scope: (desk.isGoogle ? inGooglesWords(issued.scopes) : issued.scopes).join(" "),
    ...(issued.refreshToken === undefined ? {} : { refresh_token: issued.refreshToken }),
  };
}

/** In another order, and by their long names. */
function inGooglesWords(scopes: readonly string[]): string[] {
  const long = (scope: string) =>
    scope === "email" || scope === "profile" ? `https://www.googleapis.com/auth/userinfo.${scope}` : scope;
  return scopes.map(long).toReversed();
}

function deadGrant(): WireReply {
  return json(400, { error: "invalid_grant", error_description: "Token has been expired or revoked." });
}

function formDecode(text: string): string {
  return new URLSearchParams(`value=${text}`).get("value") ?? "";
}
