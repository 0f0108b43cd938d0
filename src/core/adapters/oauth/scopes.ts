/** Google answers with the long names of what was asked for by the short ones of OpenID Connect. */
const ALIASES: Readonly<Record<string, string>> = {
  "https://www.googleapis.com/auth/userinfo.email": "email",
  "https://www.googleapis.com/auth/userinfo.profile": "profile",
};

export function canonicalScope(scope: string): string {
  return ALIASES[scope] ?? scope;
}

/** Each scope once and under one name, sorted, so that two lists can be compared. */
export function canonicalScopes(scopes: readonly string[]): string[] {
  return [...new Set(scopes.map(canonicalScope))].toSorted();
}
