import { REVISION_ROUTES } from "./app-revisions.ts";
import { APP_ROUTES } from "./apps.ts";
import { ENVIRONMENT_ROUTES } from "./environments.ts";
import { IDENTITY_ROUTES } from "./identities.ts";
import { JOB_ROUTES } from "./jobs.ts";
import { OPERATION_ROUTES } from "./operations.ts";
import { Refusal } from "./refusal.ts";
import { ROLE_ASSIGNMENT_ROUTES } from "./role-assignments.ts";
import type { Route } from "./routing.ts";
import { STORAGE_ROUTES } from "./storage.ts";
import type { Answer, Call, World } from "./world.ts";

const ROUTES: readonly Route[] = [
  ...APP_ROUTES,
  ...REVISION_ROUTES,
  ...JOB_ROUTES,
  ...ENVIRONMENT_ROUTES,
  ...OPERATION_ROUTES,
  ...IDENTITY_ROUTES,
  ...STORAGE_ROUTES,
  ...ROLE_ASSIGNMENT_ROUTES,
];

/**
 * What ARM answers to a call of somebody it knows. A path or a version that the public descriptions don't have is a violation.
 * @throws Refusal
 */
export async function dispatch(world: World, call: Call): Promise<Answer> {
  for (const route of ROUTES) {
    const match = route.method === call.method ? route.path.exec(call.path) : null;
    if (match === null) continue;
    checkVersion(world, call, route.apiVersion);
    const params = match.groups ?? {};
    checkPlace(world, params);
    return route.handle(world, { ...call, params });
  }
  world.violations.push(`${call.method} ${call.path}: there is no such route`);
  throw new Refusal(404, "InvalidResourceType", `The resource type could not be found: ${call.method} ${call.path}`);
}

function checkVersion({ violations }: World, { method, path, query }: Call, pinned: string): void {
  const version = query.get("api-version");
  if (version === pinned) return;
  violations.push(`${method} ${path}: api-version ${version} instead of ${pinned}`);
  const [code, message] =
    version === null
      ? ["MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests."]
      : ["InvalidApiVersionParameter", `The api-version '${version}' is invalid. It must be '${pinned}'.`];
  throw new Refusal(400, code, message);
}

function checkPlace({ stamps }: World, { scope = "", ...params }: Record<string, string>): void {
  const [, ofScope, groupOfScope] = /^\/subscriptions\/([^/]+)(?:\/resourceGroups\/([^/]+))?/i.exec(scope) ?? [];
  const { subscription = ofScope ?? "", group = groupOfScope } = params;
  const known = stamps.filter(({ subscriptionId }) => subscriptionId.toLowerCase() === subscription.toLowerCase());
  if (known.length === 0)
    throw new Refusal(404, "SubscriptionNotFound", `The subscription '${subscription}' could not be found.`);
  if (group === undefined || known.some(({ resourceGroup }) => resourceGroup.toLowerCase() === group.toLowerCase()))
    return;
  throw new Refusal(404, "ResourceGroupNotFound", `Resource group '${group}' could not be found.`);
}
