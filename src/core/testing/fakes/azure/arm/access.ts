import { Refusal } from "./refusal.ts";
import { assignmentsFor } from "./role-assignments.ts";
import type { Call, World } from "./world.ts";

const READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4757635";
const ACTIONS: Record<string, string> = { GET: "read", PUT: "write", PATCH: "write", DELETE: "delete", POST: "action" };

/**
 * ARM's own roles; any other, such as that of reading a vault's secrets, permits nothing here. Whoever lacks the right is not told
 * whether there is anything.
 * @throws Refusal
 */
export function requireAccess(world: World, { method, path }: Call, principalId: string): void {
  if (principalId === world.owner) return;
  const has = (role: string): boolean =>
    assignmentsFor(world, { principalId, role, scope: path }).some(({ propagation }) => propagation === 0);
  const isOfRights = /\/providers\/Microsoft\.Authorization\//i.test(path);
  const allowing = [
    OWNER,
    ...(method === "GET" || !isOfRights ? [CONTRIBUTOR] : []),
    ...(method === "GET" ? [READER] : []),
  ];
  if (allowing.some(has)) return;
  const action = `${typeOf(path)}/${ACTIONS[method] ?? method}`;
  throw new Refusal(
    403,
    "AuthorizationFailed",
    `The client '${principalId}' with object id '${principalId}' does not have authorization to perform action '${action}' over scope '${path}' or the scope is invalid. If access was recently granted, please refresh your credentials.`,
  );
}

/** `Microsoft.App/containerApps` of `…/providers/Microsoft.App/containerApps/acme`. */
function typeOf(path: string): string {
  const [provider = "Microsoft.Resources", ...rest] = (path.split(/\/providers\//i).at(-1) ?? "").split("/");
  return [provider, ...rest.filter((_, index) => index % 2 === 0)].join("/");
}
