import type { TokenReply } from "./oauth-provider.ts";
import { canonicalScopes } from "./scopes.ts";

/** A token endpoint's success, as far as it can be used; `idToken` is not yet checked. */
export type GrantedTokens = { reply: TokenReply; idToken: string | undefined };

/** What goes into a header, and with others into one secret of the vault. RFC 6749, appendix A.12. */
const TOKEN = /^[\x21-\x7e]{1,8192}$/;
const LONGEST_LIFE_SECONDS = 366 * 86_400;

/**
 * The tokens in the body of a 200; otherwise the code of why they can't be used. It is lenient with all that can be done without:
 * whoever refuses a reply has lost the refresh token that came with it.
 */
export function readTokens(body: Record<string, unknown>): GrantedTokens | "no_access_token" | "wrong_token_type" {
  const accessToken = tokenIn(body, "access_token");
  if (accessToken === undefined) return "no_access_token";
  const type = body["token_type"];
  if (typeof type === "string" && type.toLowerCase() !== "bearer") return "wrong_token_type";
  const scope = body["scope"];
  const reply = {
    accessToken,
    expiresInSeconds: readLife(body["expires_in"]),
    refreshToken: tokenIn(body, "refresh_token"),
    // RFC 6749, section 5.1: one that is left out means as it was asked for.
    scopes: typeof scope === "string" && scope.trim() !== "" ? canonicalScopes(scope.trim().split(/\s+/)) : undefined,
  };
  return { reply, idToken: tokenIn(body, "id_token") };
}

function tokenIn(body: Record<string, unknown>, name: string): string | undefined {
  const value = body[name];
  return typeof value === "string" && TOKEN.test(value) ? value : undefined;
}

/** Some send a string. What is no time to come was not said. */
function readLife(value: unknown): number | undefined {
  const number = typeof value === "string" ? Number.parseFloat(value) : value;
  const seconds = typeof number === "number" ? Math.floor(number) : 0;
  return seconds > 0 ? Math.min(seconds, LONGEST_LIFE_SECONDS) : undefined;
}
