import type { Answer, Call, World } from "./world.ts";

export type Handler = (world: World, call: Call) => Answer | Promise<Answer>;

export type Route = { method: string; path: RegExp; apiVersion: string; handle: Handler };

const GROUP = "/subscriptions/{subscription}/resourceGroups/{group}";

/**
 * Routes of one provider. A path below its providers folder, such as `containerApps/{name}`, is matched whatever its casing; `{scope}`
 * may span several segments.
 */
export function routesOf(provider: string, apiVersion: string) {
  function route(method: string, template: string, handle: Handler): Route {
    return { method, path: compile(template), apiVersion, handle };
  }
  return {
    ofGroup: (method: string, path: string, handle: Handler) =>
      route(method, `${GROUP}/providers/${provider}/${path}`, handle),
    ofSubscription: (method: string, path: string, handle: Handler) =>
      route(method, `/subscriptions/{subscription}/providers/${provider}/${path}`, handle),
    ofScope: (method: string, path: string, handle: Handler) =>
      route(method, `{scope}/providers/${provider}/${path}`, handle),
  };
}

function compile(template: string): RegExp {
  const pattern = template
    .replaceAll(".", String.raw`\.`)
    .replaceAll("{scope}", "(?<scope>/.+?)")
    .replaceAll(/\{(\w+)\}/g, "(?<$1>[^/]+)");
  return new RegExp(`^${pattern}$`, "i");
}

/** One page of a list, with the link to the next one. */
export function page(world: World, { path, query }: Call, entries: readonly unknown[]): Answer {
  const start = Number(query.get("$skiptoken") ?? 0);
  const value = entries.slice(start, start + world.pageSize);
  if (entries.length <= start + world.pageSize) return { status: 200, body: { value } };
  const next = new URLSearchParams(query);
  next.set("$skiptoken", String(start + world.pageSize));
  return { status: 200, body: { value, nextLink: `${world.url}${path}?${next.toString()}` } };
}

/** Records below a group or a subscription: those whose key begins so. */
export function below<Record>(records: ReadonlyMap<string, Record>, { params }: Call): Record[] {
  const group = params["group"] === undefined ? "" : `resourcegroups/${params["group"].toLowerCase()}/`;
  const prefix = `/subscriptions/${(params["subscription"] ?? "").toLowerCase()}/${group}`;
  return [...records].filter(([key]) => key.startsWith(prefix)).map(([, record]) => record);
}
