import type { Selectable } from "kysely";
import type { Connections } from "../platform/schema.ts";

export type Connection = Selectable<Connections>;

/** As people see it: `expiring` is an active one whose access token ends soon and could not be renewed yet. */
export const CONNECTION_STATES = ["active", "expiring", "expired", "error", "revoked"] as const;
export type ConnectionState = (typeof CONNECTION_STATES)[number];

/** A sweep renews an access token so long before its end. */
export const REFRESH_BEFORE_MS = 15 * 60_000;

export function stateOf({ state, accessExpiresAt }: Connection, now: Date): ConnectionState {
  if (state !== "active" || accessExpiresAt === null) return state;
  return accessExpiresAt.getTime() - now.getTime() <= REFRESH_BEFORE_MS ? "expiring" : "active";
}
