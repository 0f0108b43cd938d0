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

/**
 * One page of records, which are kept by key, with the link to the next one. The link names the last key, so that what comes and goes
 * meanwhile moves nothing else from page to page.
 */
export async function page<Record>(
  world: World,
  { path, query }: Call,
  records: readonly (readonly [key: string, record: Record])[],
  show: (record: Record) => unknown,
): Promise<Answer> {
  const after = Buffer.from(query.get("$skiptoken") ?? "", "base64url").toString("utf8");
  const left = records.filter(([key]) => key > after).toSorted(([one], [other]) => (one < other ? -1 : 1));
  const shown = left.slice(0, world.pageSize);
  const value: unknown[] = [];
  for (const [, record] of shown) value.push(await show(record));
  const last = shown.at(-1);
  if (last === undefined || left.length === shown.length) return { status: 200, body: { value } };
  const next = new URLSearchParams(query);
  next.set("$skiptoken", Buffer.from(last[0]).toString("base64url"));
  return { status: 200, body: { value, nextLink: `${world.url}${path}?${next.toString()}` } };
}

/** Records below a group or a subscription: those whose key begins so. */
export function below<Record>(records: ReadonlyMap<string, Record>, { params }: Call): [string, Record][] {
  const group = params["group"] === undefined ? "" : `resourcegroups/${params["group"].toLowerCase()}/`;
  const prefix = `/subscriptions/${(params["subscription"] ?? "").toLowerCase()}/${group}`;
  return [...records].filter(([key]) => key.startsWith(prefix));
}
