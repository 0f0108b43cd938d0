import type { ConnectionView } from "../../core/integrations/integrations.ts";
import { printFields, printTable } from "../output.ts";
import { formatTime } from "../tenant/view.ts";

export function printConnections(connections: readonly ConnectionView[]): void {
  printTable(
    ["TENANT", "PROVIDER", "STATE", "ACCOUNT", "WHY"],
    connections.map((connection) => [
      connection.tenant,
      connection.provider,
      describeState(connection),
      connection.account ?? "–",
      connection.reason ?? "–",
    ]),
  );
}

export function printConnection(connection: ConnectionView): void {
  const { reason, remedy, missingScopes: missing, attempts, trouble } = connection;
  printFields([
    ["provider", connection.provider],
    ["tenant", `${connection.tenant} (${connection.tenantId})`],
    ["state", `${describeState(connection)} since ${formatTime(connection.stateChangedAt)}`],
    ...(reason === null ? [] : [["because", reason] as const]),
    ...(remedy === null ? [] : [["remedy", remedy] as const]),
    ["account", connection.account ?? "the provider did not tell"],
    ["granted", connection.scopes.join(" ") || "–"],
    ...(missing.length === 0 ? [] : [["not granted", missing.join(" ")] as const]),
    ["connected", formatTime(connection.connectedAt)],
    ["renewed", formatTime(connection.refreshedAt)],
    ["access ends", formatTime(connection.accessExpiresAt)],
    ["next renewal", formatTime(connection.nextRefreshAt)],
    ["failures", attempts === 0 ? "none" : `${attempts} in a row, the last: ${trouble ?? "no reason recorded"}`],
  ]);
}

/** At rest: kept and not used, because the tenant is removed. Pending: the provider has still to be told. */
function describeState({ state, atRest, revocation }: ConnectionView): string {
  if (atRest) return `${state} (at rest)`;
  return revocation === null ? state : `${state} (pending)`;
}
