import type { ProviderId, TenantId } from "../platform/ids.ts";
import { type ConnectionState, stateOf } from "./connection.ts";
import { type ConnectionFacts, diagnose, type Diagnosis, isAtRest } from "./diagnosis.ts";
import { missingScopes } from "./scopes.ts";

/** A connection for people and scripts; nothing in it is secret. */
export type ConnectionView = Diagnosis & {
  /** Its slug. */
  tenant: string;
  tenantId: TenantId;
  provider: ProviderId;
  state: ConnectionState;
  /** Kept as it is and not used, because its tenant is removed. */
  atRest: boolean;
  /** The e-mail of the account that was connected, as far as the provider told. */
  account: string | null;
  scopes: readonly string[];
  /** What is asked for and was not granted. */
  missingScopes: readonly string[];
  connectedAt: Date;
  stateChangedAt: Date;
  refreshedAt: Date | null;
  /** Null: never. */
  accessExpiresAt: Date | null;
  /** Null: it is not going to be renewed. */
  nextRefreshAt: Date | null;
  triedAt: Date | null;
  /** Failures in a row, and the code of the last. */
  attempts: number;
  trouble: string | null;
  /** `pending`: the provider has still to be told that the grant is over. */
  revocation: "pending" | null;
};

export function viewConnection({ now, ...facts }: ConnectionFacts & { now: Date }): ConnectionView {
  const { connection, tenant, provider, ending } = facts;
  const { accountEmail, scopes, refreshAt, ...rest } = connection;
  const state = stateOf(connection, now);
  const isOver = state === "revoked";
  const atRest = !isOver && isAtRest(tenant);
  return {
    tenant: tenant.slug,
    tenantId: tenant.id,
    provider: rest.provider,
    state,
    atRest,
    ...diagnose(facts, state),
    account: accountEmail,
    scopes,
    missingScopes: provider === undefined || isOver ? [] : missingScopes(provider.definition.scopes, scopes),
    connectedAt: rest.connectedAt,
    stateChangedAt: rest.stateChangedAt,
    refreshedAt: rest.refreshedAt,
    accessExpiresAt: isOver ? null : rest.accessExpiresAt,
    nextRefreshAt: isOver || atRest ? null : refreshAt,
    triedAt: rest.triedAt,
    attempts: rest.attempts,
    trouble: rest.trouble,
    revocation: ending === undefined ? null : "pending",
  };
}
