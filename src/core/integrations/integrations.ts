export { type ConnectionNews, enqueueConnectionNews, findConnectionOfNews } from "./news.ts";
export { missingScopes } from "./scopes.ts";
