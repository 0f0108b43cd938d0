import type { ProviderId, TenantId } from "../platform/ids.ts";
import { type Connection, type ConnectionState, stateOf } from "./connection.ts";
import { ensureToken, type TokenAnswer } from "./ensure-token.ts";
import { recordEvent } from "./events.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { listConnections } from "./store.ts";

/** A runtime's token holds for so long at least, as long as the provider can be reached. */
const MIN_REMAINING_MS = 120_000;

/** An access token for a tenant's runtime. That it was handed out is recorded before anybody has it. */
export async function handOutToken(
  ctx: IntegrationsContext,
  tenantId: TenantId,
  provider: ProviderId,
  signal: AbortSignal,
): Promise<TokenAnswer> {
  const begun = performance.now();
  const key = { tenantId, provider };
  const answer = await ensureToken(ctx, key, { askedBy: "runtime", minRemainingMs: MIN_REMAINING_MS, signal });
  if (answer.kind !== "token") return answer;
  const durationMs = Math.round(performance.now() - begun);
  const event = { ...key, at: ctx.clock.now(), kind: "token", askedBy: "runtime", outcome: "done" } as const;
  await recordEvent(ctx.db, { ...event, durationMs });
  return answer;
}

/** What a runtime is told of a connection. `action`: what its person should do, if anything. */
export type RuntimeConnection = {
  provider: ProviderId;
  name: string;
  /** Where its API begins; null: not known here. */
  api: string | null;
  state: ConnectionState;
  account: string | null;
  scopes: string[];
  action: string | null;
};

export async function listForRuntime(
  { db, clock, providers }: IntegrationsContext,
  tenantId: TenantId,
): Promise<RuntimeConnection[]> {
  const now = clock.now();
  return (await listConnections(db, { tenantIds: [tenantId] })).map((connection) => {
    const { provider, accountEmail: account, scopes } = connection;
    const definition = providers.find(provider)?.definition;
    const name = definition?.name ?? provider;
    const api = definition?.apiUrl ?? null;
    const state = stateOf(connection, now);
    return { provider, name, api, state, account, scopes, action: describeAction(connection.state, name) };
  });
}

/** In words that an assistant can pass on to its person. Null: nothing. */
export function describeAction(state: Connection["state"] | "absent" | "at-rest", name: string): string | null {
  switch (state) {
    case "active":
      return null;
    case "error":
      return `Nothing: ${name} can't be reached at the moment, which is being looked after.`;
    case "expired":
      return `Connect ${name} again, by the link that was sent to the chat or a new one from whoever runs this service.`;
    case "revoked":
      return `${name} was disconnected. To have it back, ask whoever runs this service for a link.`;
    case "absent":
      return `${name} is not connected. Ask whoever runs this service for a link.`;
    case "at-rest":
      return `Nothing: this assistant is being removed.`;
  }
}
