import type { ExchangeResult, ProviderDefinition } from "../adapters/oauth/oauth-provider.ts";
import { addMs } from "../platform/clock.ts";
import { assertNever } from "../platform/errors.ts";
import type { ProviderId } from "../platform/ids.ts";
import { findTenantById, type Tenant } from "../tenants/tenants.ts";
import { isConnectable } from "./connect-links.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import type { ConnectRefusal, ConsentRefusal, OfferRefusal } from "./connect-refusals.ts";
import { secretsOf, takeState } from "./consent.ts";
import { type EventOutcome, recordEventOfAnybody } from "./events.ts";
import { endGrant } from "./end-grant.ts";
import { noteGrant, takeGrant } from "./grant-store.ts";
import { keepConnection, type Keeping, prepareToKeep, type TokensGranted } from "./keep-connection.ts";
import { findLink, type OAuthState } from "./link-store.ts";
import { endOf, findReadyProvider, type ReadyProvider } from "./offer.ts";
import { missingScopes } from "./scopes.ts";

export type Connected = {
  kind: "connected";
  provider: ProviderDefinition;
  tenantName: string;
  accountEmail: string | null;
  /** Whether something was left out that it can do without. */
  isPart: boolean;
};

export type ConsentAnswer = {
  /** With what the browser came back. */
  answer: URLSearchParams;
  state: string;
  /** From the cookie that the consent began with. */
  nonce: string | undefined;
  redirectUri: string;
  signal: AbortSignal;
};

/** Until then a consent that was given is left to whoever is at it. */
const UNDER_WAY_MS = 5 * 60_000;
/** What was granted for nothing is ended though nobody waits any more. */
const never = new AbortController().signal;

const EVENT_OUTCOMES: Partial<Record<ConnectRefusal["kind"], EventOutcome>> = {
  denied: "denied",
  "too-late": "dead",
  "client-refused": "client",
  unavailable: "unavailable",
  overtaken: "overtaken",
};

/**
 * Takes what the provider answered. Either the connection is the new one afterwards, or it is as it was: there is nothing in between,
 * wherever it breaks off. An answer counts once, in the browser in which the consent was begun.
 */
export async function finishConnect(
  ctx: IntegrationsContext,
  providerId: ProviderId,
  consent: ConsentAnswer,
): Promise<Connected | ConnectRefusal> {
  const provider = findReadyProvider(ctx, providerId);
  if ("kind" in provider) return provider;
  const state = await takeState(ctx, providerId, consent);
  if ("kind" in state) return state;
  const startedAt = performance.now();
  const outcome = await takeAnswer(ctx, provider, state, consent);
  // A connection is recorded together with its event, and of a tenant that is gone nothing is.
  if (outcome.kind !== "connected" && outcome.kind !== "tenant-gone")
    await recordEventOfAnybody(ctx.db, {
      tenantId: state.tenantId,
      provider: providerId,
      at: ctx.clock.now(),
      kind: "connect",
      askedBy: "subscriber",
      outcome: EVENT_OUTCOMES[outcome.kind] ?? "failed",
      code: "code" in outcome ? outcome.code : outcome.kind,
      durationMs: Math.round(performance.now() - startedAt),
      retryAt: null,
    });
  return outcome;
}

async function takeAnswer(
  ctx: IntegrationsContext,
  provider: ReadyProvider,
  state: OAuthState,
  consent: ConsentAnswer,
): Promise<Connected | ConnectRefusal> {
  const open = await findOpen(ctx, state);
  if ("kind" in open) return open;
  const { answer, nonce = "", redirectUri, signal } = consent;
  const asked = { redirectUri, state: consent.state, ...secretsOf(nonce, consent.state) };
  const result = await provider.client.exchange(answer, asked, signal);
  if (result.kind !== "granted" && result.kind !== "misgranted") return refusalOf(result, provider.definition);
  const keeping = prepareToKeep(ctx, provider.definition, { state, result, signal });
  const refusal = await keepOrGiveBack(ctx, keeping, judge(provider.definition, result, keeping));
  if (refusal !== undefined) return refusal;
  return {
    kind: "connected",
    provider: provider.definition,
    tenantName: open.tenant.displayName,
    accountEmail: keeping.accountEmail,
    isPart: missingScopes(provider.definition.scopes, keeping.scopes).length > 0,
  };
}

/**
 * What is not kept is not left alive at the provider (F77). It is noted as to be ended before anything else is done, and is so no more
 * only when its connection is made: however it breaks off, the sweep goes on with it.
 */
async function keepOrGiveBack(
  ctx: IntegrationsContext,
  keeping: Keeping,
  refused: ConsentRefusal | undefined,
): Promise<ConsentRefusal | OfferRefusal | undefined> {
  const now = ctx.clock.now();
  try {
    await noteGrant(ctx.db, keeping.grant, { since: now, tryAt: addMs(now, UNDER_WAY_MS) });
    const refusal = refused ?? (await keepConnection(ctx, keeping));
    if (refusal !== undefined) await giveBack(ctx, keeping);
    return refusal;
  } catch (error) {
    // To compensate.
    await giveBack(ctx, keeping);
    throw error;
  }
}

/** The tenant and its link may have come to an end meanwhile. That the link has grown too old is no matter: it was begun in time. */
async function findOpen(ctx: IntegrationsContext, state: OAuthState): Promise<{ tenant: Tenant } | OfferRefusal> {
  const tenant = await findTenantById(ctx.db, state.tenantId);
  if (tenant === undefined || !isConnectable(tenant)) return { kind: "tenant-gone" };
  const link = await findLink(ctx.db, state.linkHash);
  return link === undefined ? { kind: "link-unknown" } : (endOf(link) ?? { tenant });
}

function refusalOf(result: Exclude<ExchangeResult, TokensGranted>, provider: ProviderDefinition): ConsentRefusal {
  const { code } = result;
  switch (result.kind) {
    case "foreign":
      return { kind: "foreign", code };
    case "denied":
    case "unavailable":
      return { kind: result.kind, provider, code };
    case "dead":
      return { kind: "too-late", provider, code };
    case "client":
      return { kind: "client-refused", provider, code };
    default:
      return assertNever(result);
  }
}

/** People may untick some of what is asked for. */
function judge(
  provider: ProviderDefinition,
  result: TokensGranted,
  { scopes, tokens }: Keeping,
): ConsentRefusal | undefined {
  if (result.kind === "misgranted") return { kind: "foreign", code: result.code };
  const missing = missingScopes(provider.neededScopes, scopes);
  if (missing.length > 0) return { kind: "scopes-missing", provider, missing };
  if (provider.needsRefreshToken && tokens.refreshToken === null) return { kind: "not-lasting", provider };
  return undefined;
}

/** While the provider is out of reach, the tokens are kept for as long as they are needed to end it. */
async function giveBack(ctx: IntegrationsContext, { grant, tokens }: Keeping): Promise<void> {
  try {
    const taken = await takeGrant(ctx.db, grant, ctx.clock.now());
    await endGrant(ctx, taken, { askedBy: "subscriber", tokens, signal: never });
  } catch (error) {
    // To keep to what the person is told: the sweep goes on.
    ctx.log.warn(
      { error, grantId: grant.grantId },
      "a grant that was not kept could not be ended, will be tried again",
    );
  }
}
