import type { Provider } from "../adapters/oauth/oauth-provider.ts";
import type { Tenant } from "../tenants/tenants.ts";
import type { Connection, ConnectionState } from "./connection.ts";
import type { GrantToEnd } from "./grant-store.ts";
import { type ClientTrouble, STATUSES_AT_REST } from "./store.ts";

/** Why a connection is not simply active, and what helps: a code for scripts, words for people. */
export type Diagnosis = { code: string | null; reason: string | null; remedy: string | null };

export type ConnectionFacts = {
  connection: Connection;
  tenant: Pick<Tenant, "id" | "slug" | "status">;
  /** Undefined: no such provider is defined any more. */
  provider: Provider | undefined;
  /** Of the connection's provider. */
  clientTrouble: ClientTrouble | undefined;
  /** Its grant, while the provider has still to be told that it is over. */
  ending: Pick<GrantToEnd, "attempts"> | undefined;
};

const WELL: Diagnosis = { code: null, reason: null, remedy: null };

/** By reason of `expired`. */
const EXPIRED: Readonly<Record<string, string>> = {
  grant_dead: "the grant was withdrawn, or ended by the provider's rules",
  reauth_required: "the provider wants the person to sign in again, by a rule of their organisation",
  not_renewable: "its access ended, and the provider had given nothing to renew it with",
};

/** Of failures, those that don't pass by themselves. */
const TOKENS_LOST: Readonly<Record<string, string>> = {
  tokens_missing: "its tokens are not in the vault",
  tokens_unreadable: "what lies in the vault for it is no set of tokens",
};

/** Its connections are kept and not used until it is restored. */
export function isAtRest({ status }: Pick<Tenant, "status">): boolean {
  return STATUSES_AT_REST.includes(status);
}

/** The first that matters: what ended the connection, then what stands in its way, then what goes wrong for now. */
export function diagnose(facts: ConnectionFacts, state: ConnectionState): Diagnosis {
  const { connection, tenant, provider, clientTrouble } = facts;
  if (state === "revoked") return describeEnd(facts);
  if (isAtRest(tenant)) {
    const reason = `the tenant is ${tenant.status}: the connection rests, and comes back with it`;
    return { code: "tenant_gone", reason, remedy: `openclaw tenant restore ${tenant.slug}` };
  }
  if (state === "expired") {
    const reason = EXPIRED[connection.reason ?? ""] ?? "its access has ended, and can't be renewed";
    return { code: connection.reason, reason, remedy: `connect again: ${connectCommand(facts)}` };
  }
  if (provider?.client === undefined) return describeNoClient(facts);
  if (state === "error" || clientTrouble !== undefined) return describeClient(connection, clientTrouble);
  if (!connection.hasRefreshToken && connection.accessExpiresAt !== null) {
    const reason = "the provider gave nothing to renew it with; it ends with its access token";
    return { code: "not_renewable", reason, remedy: `connect again then: ${connectCommand(facts)}` };
  }
  if (connection.attempts > 0) return describeFailures(facts);
  if (state === "expiring")
    return { code: "due", reason: "it is due to be renewed", remedy: "a daemon does it; is one running?" };
  return WELL;
}

function connectCommand({ connection, tenant }: ConnectionFacts): string {
  return `openclaw integration connect ${tenant.slug} ${connection.provider}`;
}

function describeEnd(facts: ConnectionFacts): Diagnosis {
  const { connection, ending } = facts;
  const attempts = ending?.attempts ?? 0;
  const tried = attempts === 0 ? "" : `, tried ${attempts === 1 ? "once" : `${attempts} times`} so far`;
  const pending = ending === undefined ? "" : `; the provider has still to be told that the grant is over${tried}`;
  return {
    code: connection.reason,
    reason: `it was disconnected${pending}`,
    remedy: `to have it back: ${connectCommand(facts)}`,
  };
}

function describeNoClient({ connection, provider }: ConnectionFacts): Diagnosis {
  if (provider === undefined) {
    const reason = `no provider ${connection.provider} is defined any more`;
    return { code: "provider_unknown", reason, remedy: "define it again in OPENCLAW_PROVIDERS_FILE" };
  }
  const reason = `no OAuth client is configured for ${provider.definition.name}`;
  return { code: "client_missing", reason, remedy: "see: openclaw integration providers" };
}

/** Our fault: nobody is disconnected, and a success brings all back. */
function describeClient({ trouble }: Connection, clientTrouble: ClientTrouble | undefined): Diagnosis {
  const said = clientTrouble?.code ?? trouble;
  const reason = `the provider refuses our OAuth client${said === null ? "" : ` (${said})`}, not this person's grant`;
  return { code: "client_refused", reason, remedy: "mend the client's id and secret; see: openclaw check" };
}

function describeFailures(facts: ConnectionFacts): Diagnosis {
  const { attempts, trouble } = facts.connection;
  const lost = TOKENS_LOST[trouble ?? ""];
  if (lost !== undefined) {
    const remedy = `look after the vault (openclaw check), or connect again: ${connectCommand(facts)}`;
    return { code: trouble, reason: lost, remedy };
  }
  const often = attempts === 1 ? "time" : `${attempts} times`;
  const reason = `it could not be renewed the last ${often} (${trouble ?? "no reason recorded"})`;
  return { code: "not_renewed", reason, remedy: `it is tried again by itself${whereToLook(trouble)}` };
}

/** Of a provider's trouble an operator can mend nothing. */
function whereToLook(trouble: string | null): string {
  // A vault that takes and gives secrets may hold single ones that no key opens: check does not find those.
  if (trouble === "vault_key_wrong") return "; which secrets no key opens: openclaw vault rotate-key --dry-run";
  return trouble?.startsWith("vault_") === true ? "; see: openclaw check" : "";
}
