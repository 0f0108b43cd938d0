import { advance } from "./operations.ts";
import { notFound, Refusal } from "./refusal.ts";
import { keyOf } from "./resource-id.ts";
import type { App, Call, World } from "./world.ts";

/** The app as this look finds it; what is under way goes on with every look. */
export function current(world: World, path: string): App | undefined {
  const app = world.apps.get(keyOf(path));
  if (app?.operation !== undefined) advance(app.operation);
  return world.apps.get(keyOf(path));
}

/** @throws Refusal when there is none. */
export function find(world: World, { params }: Call): App {
  const { subscription = "", group = "", name = "" } = params;
  const id = `/subscriptions/${subscription}/resourceGroups/${group}/providers/Microsoft.App/containerApps/${name}`;
  const app = current(world, id);
  if (app === undefined) throw notFound("Microsoft.App/containerApps", name, group);
  return app;
}

/** @throws Refusal while an operation on the app is under way. */
export function refuseBusy(app: App | undefined): void {
  if (app?.operation?.status === "InProgress") throw busy(app);
}

export function busy({ name }: App): Refusal {
  const message = `Cannot modify a container app '${name}' because there is an active provisioning operation in progress. Please retry the operation later.`;
  return new Refusal(409, "ContainerAppOperationInProgress", message);
}
