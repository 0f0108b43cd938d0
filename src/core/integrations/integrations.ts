export { type ConnectionNews, enqueueConnectionNews, findConnectionOfNews } from "./news.ts";
export { missingScopes } from "./scopes.ts";
export { CONNECTION_STATES, stateOf } from "./connection.ts";
export {
  type ConnectionEvent,
  listEvents as listConnectionEvents,
  pruneConnectionEvents,
  recordEvent,
} from "./events.ts";
export { viewConnections } from "./overview.ts";
export { type ConnectionFilter, type ConnectionKey, find as findConnection, listConnections } from "./store.ts";
export type { ConnectionView } from "./view.ts";
