import { randomBytes, randomUUID } from "node:crypto";
import { addMs, type Clock } from "../../../platform/clock.ts";

/** Somebody at the provider. */
export type Person = { subject: string; email: string; isEmailVerified: boolean };

export type Grant = {
  id: string;
  clientId: string;
  person: Person;
  scopes: string[];
  isAlive: boolean;
  /** Refreshes that gave an access token. */
  refreshes: number;
  /** Refreshes with a token that was spent, whether the leeway covered them or not. */
  reuses: number;
  /** Those that still give access tokens, the oldest first. */
  refreshTokens: string[];
  /** Of everybody who was given one. */
  accessTokensIssued: number;
};

export type Issued = { accessToken: string; refreshToken: string | undefined; scopes: string[] };

/** How a provider deals with its grants. */
export type GrantRules = {
  /** `google`: all consents of a person to a client are one grant, whose tokens end together, and which keeps so many of them. */
  manner: "plain" | "google";
  /** Whether every refresh spends its token and gives another. */
  rotates: boolean;
  /** A spent token is still taken for so long; after that its use ends the whole grant. */
  leewayMs: number;
  accessTokenSeconds: number;
  maxRefreshTokens: number;
};

type RefreshToken = {
  grant: Grant;
  scopes: readonly string[];
  state: "live" | "spent" | "over";
  spentAt: Date | undefined;
};
type AccessToken = { grant: Grant; scopes: string[]; endsAt: Date };

export type Grants = ReturnType<typeof createGrants>;

/** What was granted to whom, and the tokens of it. */
export function createGrants(rules: GrantRules, clock: Clock) {
  const all: Grant[] = [];
  const shared = new Map<string, Grant>();
  const refreshTokens = new Map<string, RefreshToken>();
  const accessTokens = new Map<string, AccessToken>();

  function open(clientId: string, person: Person, scopes: readonly string[]): Grant {
    const key = `${clientId} ${person.subject}`;
    const known = rules.manner === "google" ? shared.get(key) : undefined;
    if (known?.isAlive === true) {
      known.scopes = [...new Set([...known.scopes, ...scopes])];
      return known;
    }
    const counts = { refreshes: 0, reuses: 0, accessTokensIssued: 0 };
    const grant: Grant = {
      id: randomUUID(),
      clientId,
      person,
      scopes: [...scopes],
      isAlive: true,
      refreshTokens: [],
      ...counts,
    };
    all.push(grant);
    shared.set(key, grant);
    return grant;
  }

  function issue(grant: Grant, scopes: readonly string[], { withRefreshToken }: { withRefreshToken: boolean }): Issued {
    const accessToken = `access-${randomBytes(24).toString("base64url")}`;
    grant.accessTokensIssued += 1;
    accessTokens.set(accessToken, {
      grant,
      scopes: [...scopes],
      endsAt: addMs(clock.now(), rules.accessTokenSeconds * 1_000),
    });
    if (!withRefreshToken) return { accessToken, refreshToken: undefined, scopes: [...scopes] };
    const refreshToken = `refresh-${randomBytes(24).toString("base64url")}`;
    refreshTokens.set(refreshToken, { grant, scopes, state: "live", spentAt: undefined });
    grant.refreshTokens.push(refreshToken);
    // The oldest stop working, and nobody is told.
    while (grant.refreshTokens.length > rules.maxRefreshTokens) retire(grant.refreshTokens[0] ?? "", "over");
    return { accessToken, refreshToken, scopes: [...scopes] };
  }

  function retire(token: string, state: "spent" | "over"): void {
    const found = refreshTokens.get(token);
    if (found === undefined) return;
    found.state = state;
    found.spentAt = clock.now();
    found.grant.refreshTokens = found.grant.refreshTokens.filter((one) => one !== token);
  }

  function end(grant: Grant): void {
    grant.isAlive = false;
    for (const token of grant.refreshTokens) retire(token, "over");
  }

  return {
    all,
    open,
    issue,
    end,
    /** Undefined: there is no such token for that client, or it gives nothing any more. */
    refresh(token: string, clientId: string): Issued | undefined {
      const found = refreshTokens.get(token);
      if (found === undefined || found.grant.clientId !== clientId || !found.grant.isAlive) return undefined;
      const { grant, scopes, state, spentAt } = found;
      if (state === "over") return undefined;
      if (state === "spent") {
        grant.reuses += 1;
        const isWithinLeeway = spentAt !== undefined && clock.now().getTime() - spentAt.getTime() < rules.leewayMs;
        if (!isWithinLeeway) {
          // Somebody else has it, and nobody knows who.
          end(grant);
          return undefined;
        }
      }
      grant.refreshes += 1;
      if (rules.rotates && state === "live") retire(token, "spent");
      return issue(grant, scopes, { withRefreshToken: rules.rotates });
    },
    /** @returns whether there was such a token for that client. */
    revoke(token: string, clientId: string): boolean {
      const grant = refreshTokens.get(token)?.grant ?? accessTokens.get(token)?.grant;
      if (grant === undefined || grant.clientId !== clientId || !grant.isAlive) return false;
      end(grant);
      return true;
    },
    /** Whose it is; undefined for one that is over, or that nobody was given. */
    holderOf(accessToken: string): { person: Person; scopes: string[]; grant: Grant } | undefined {
      const found = accessTokens.get(accessToken);
      if (found === undefined || !found.grant.isAlive || found.endsAt <= clock.now()) return undefined;
      return { person: found.grant.person, scopes: found.scopes, grant: found.grant };
    },
  };
}
