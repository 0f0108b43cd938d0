import * as oauth from "oauth4webapi";
import type { Dealings } from "./dealings.ts";
import type { Account } from "./oauth-provider.ts";

/** An id token comes by TLS from the token endpoint itself, so its signature is not checked (OpenID Connect Core, 3.1.3.7). */
const ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
];

/**
 * Whose account it is, when issuer, audience, expiry and nonce are as they must be; `foreign` when not, or when one was asked for and
 * none came. Undefined: the provider gives none.
 */
export async function checkIdToken(
  { definition, server, client, clock }: Dealings,
  idToken: string | undefined,
  nonce: string,
): Promise<Account | undefined | "foreign"> {
  if (definition.issuer === undefined || !definition.scopes.includes("openid")) return undefined;
  if (idToken === undefined) return "foreign";
  const skewSeconds = Math.round((clock.now().getTime() - Date.now()) / 1_000);
  const issuer = withoutScheme(idToken, server.issuer);
  try {
    // The library looks at tokens within a reply only; all else in it was read by then.
    const checked = await oauth.processAuthorizationCodeResponse(
      { ...server, issuer, id_token_signing_alg_values_supported: ALGORITHMS },
      { ...client, [oauth.clockSkew]: skewSeconds },
      Response.json({ access_token: "unused", token_type: "bearer", id_token: idToken }),
      { expectedNonce: nonce, requireIdToken: true },
    );
    return accountOf(oauth.getValidatedIdTokenClaims(checked));
  } catch (error) {
    if (error instanceof oauth.OperationProcessingError || error instanceof oauth.UnsupportedOperationError)
      return "foreign";
    throw error;
  }
}

function accountOf(claims: oauth.IDToken | undefined): Account | "foreign" {
  if (claims === undefined || claims.sub === "") return "foreign";
  const { sub: subject, email, email_verified: isVerified } = claims;
  return { subject, email: typeof email === "string" && isVerified === true ? email : undefined };
}

/** Google's own may name it as `accounts.google.com`. @returns the name by which the token has to be its issuer's. */
function withoutScheme(idToken: string, issuer: string): string {
  const bare = issuer.replace(/^https:\/\//, "");
  return claimedIssuer(idToken) === bare ? bare : issuer;
}

function claimedIssuer(idToken: string): unknown {
  try {
    return JSON.parse(Buffer.from(idToken.split(".")[1] ?? "", "base64url").toString())["iss"];
  } catch {
    // What can't be read is refused by the check that follows.
    return undefined;
  }
}
