import type { Selectable } from "kysely";
import type { Connections } from "../platform/schema.ts";

export type Connection = Selectable<Connections>;

/** As people see it: `expiring` is an active one whose access token ends soon and could not be renewed yet. */
export const CONNECTION_STATES = ["active", "expiring", "expired", "error", "revoked"] as const;
export type ConnectionState = (typeof CONNECTION_STATES)[number];

/** A sweep renews an access token so long before its end, but not in the first half of its life. */
export const REFRESH_BEFORE_MS = 15 * 60_000;

/** The same rule is in totals.ts. */
export function stateOf(connection: Connection, now: Date): ConnectionState {
  const { state, accessExpiresAt, refreshedAt, connectedAt } = connection;
  if (state !== "active" || accessExpiresAt === null) return state;
  const lifeMs = accessExpiresAt.getTime() - (refreshedAt ?? connectedAt).getTime();
  const remainingMs = accessExpiresAt.getTime() - now.getTime();
  return remainingMs <= Math.min(REFRESH_BEFORE_MS, Math.max(0, lifeMs) / 2) ? "expiring" : "active";
}
