export { type ConnectionNews, enqueueConnectionNews, findConnectionOfNews } from "./news.ts";
export { missingScopes } from "./scopes.ts";
export { type ConnectionEvent, pruneConnectionEvents, recordEvent } from "./events.ts";
export { type ConnectionFilter, type ConnectionKey, find as findConnection, listConnections } from "./store.ts";
