import { createHmac, timingSafeEqual } from "node:crypto";
import { addMs } from "../platform/clock.ts";
import type { ProviderId } from "../platform/ids.ts";
import { hashToken, isToken, newToken } from "./connect-links.ts";
import type { OfferRefusal, StateRefusal } from "./connect-refusals.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { consumeState, countRecentStates, findState, insertState, type OAuthState } from "./link-store.ts";
import { findReadyProvider, openLink } from "./offer.ts";

export const STATE_LIFETIME_MS = 10 * 60_000;
/** Of one link in that time: somebody may begin again and again, but nobody may fill a table. */
const MAX_STATES = 20;

export type Begun = {
  kind: "begun";
  /** The provider's page, the only place outside that anybody is sent to. */
  url: URL;
  state: string;
  /** Goes into the browser's cookie and is kept nowhere. */
  nonce: string;
};

/**
 * Begins a consent in one browser: whoever comes back with its state must have the nonce. Of state and nonce only hashes are kept,
 * and what the provider is asked with is derived from both, so that a row alone is worth nothing.
 */
export async function beginConnect(
  ctx: IntegrationsContext,
  providerId: ProviderId,
  token: string,
  { redirectUri }: { redirectUri: string },
): Promise<Begun | OfferRefusal | { kind: "crowded" }> {
  const provider = findReadyProvider(ctx, providerId);
  if ("kind" in provider) return provider;
  const opened = await openLink(ctx, providerId, token);
  if (opened.kind !== "open") return opened;
  const { link } = opened;
  const now = ctx.clock.now();
  if ((await countRecentStates(ctx.db, link.tokenHash, now)) >= MAX_STATES) return { kind: "crowded" };
  const [state, nonce] = [newToken(), newToken()];
  const url = await provider.client.authorizationUrl({ redirectUri, state, ...secretsOf(nonce, state) });
  await insertState(ctx.db, {
    stateHash: hashToken(state),
    tenantId: link.tenantId,
    provider: providerId,
    linkHash: link.tokenHash,
    nonceHash: hashToken(nonce),
    createdAt: now,
    expiresAt: addMs(now, STATE_LIFETIME_MS),
  });
  return { kind: "begun", url, state, nonce };
}

/** The PKCE verifier and the nonce of the id token. */
export function secretsOf(nonce: string, state: string): { codeVerifier: string; nonce: string } {
  const derive = (use: string) => createHmac("sha256", nonce).update(`${use}:${state}`).digest("base64url");
  return { codeVerifier: derive("pkce"), nonce: derive("oidc") };
}

/**
 * Uses up the state that came back. Whoever shows one uses it up, in whatever browser and with whatever provider: it can't be guessed,
 * and an answer that has landed in the wrong place must be worth nothing to whoever gets hold of its address.
 */
export async function takeState(
  ctx: IntegrationsContext,
  providerId: ProviderId,
  { state, nonce }: { state: string; nonce: string | undefined },
): Promise<OAuthState | StateRefusal> {
  if (!isToken(state)) return { kind: "state-unknown" };
  const stateHash = hashToken(state);
  const taken = await consumeState(ctx.db, stateHash, ctx.clock.now());
  if (taken === undefined) {
    const known = await findState(ctx.db, stateHash);
    if (known === undefined) return { kind: "state-unknown" };
    return { kind: known.consumedAt === null ? "state-expired" : "state-used" };
  }
  if (taken.provider !== providerId) return { kind: "other-provider" };
  if (nonce === undefined || !timingSafeEqual(hashToken(nonce), taken.nonceHash)) return { kind: "other-browser" };
  return taken;
}
