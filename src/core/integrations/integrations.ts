export { type ConnectionNews, enqueueConnectionNews, findConnectionOfNews } from "./news.ts";
export { missingScopes } from "./scopes.ts";
export { CONNECTION_STATES, type Connection, stateOf } from "./connection.ts";
export {
  type ConnectionEvent,
  listEvents as listConnectionEvents,
  pruneConnectionEvents,
  recordEvent,
} from "./events.ts";
export { viewConnections } from "./overview.ts";
export {
  type ConnectionFilter,
  type ConnectionKey,
  find as findConnection,
  listClientTroubles,
  listConnections,
} from "./store.ts";
export type { ConnectionView } from "./view.ts";
export { connectRedirectUri, connectUrl, createConnectLink } from "./connect-links.ts";
export { beginConnect, STATE_LIFETIME_MS } from "./consent.ts";
export type { IntegrationsContext } from "./integrations-context.ts";
export { findOffer, type Offer } from "./offer.ts";
export type { Ask } from "./decision.ts";
export { ensureToken, type TokenAnswer } from "./ensure-token.ts";
export { renewConnection, settleRefreshes } from "./refresh.ts";
export { pruneConnectLinks } from "./link-store.ts";
export { type Connected, finishConnect } from "./connect.ts";
export type { ConnectRefusal, ConsentRefusal, StateRefusal } from "./connect-refusals.ts";
export { disconnect, endConnectionsOf } from "./disconnect.ts";
export { sweepRevocations } from "./sweep-revocations.ts";
export type { Ended } from "./end-grant.ts";
export { sweepConnections, type SweepCounts } from "./sweep.ts";
export { describeAction, handOutToken, listForRuntime } from "./tokens.ts";
export { type ConnectionTotals, readConnectionTotals } from "./totals.ts";
