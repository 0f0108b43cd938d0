import { canonical, mergePatch } from "./canonical.ts";
import { nowText } from "./clock.ts";
import { busy, current, find, refuseBusy } from "./app-lookup.ts";
import { checkEnvironment, checkIdentities, checkName, checkTemplate } from "./app-rules.ts";
import { resolveSecrets } from "./app-secrets.ts";
import { shownApp } from "./app-view.ts";
import { refuseLocked } from "./locks.ts";
import { advance, beginOperation, followHeaders } from "./operations.ts";
import { invalidFields, Refusal } from "./refusal.ts";
import { isRunning, observe, startReplica, stopReplica } from "./replicas.ts";
import { keyOf } from "./resource-id.ts";
import { addRevision, planRevision, takenSuffix } from "./revisions.ts";
import { below, page, routesOf, type Route } from "./routing.ts";
import { appBody, type AppBody, appPatch, validBody } from "./schema.ts";
import type { Answer, App, Call, World } from "./world.ts";

/** All of an app that is written. */
type Wanted = Pick<
  App,
  | "location"
  | "tags"
  | "identityType"
  | "identities"
  | "managedBy"
  | "workloadProfileName"
  | "environmentId"
  | "configuration"
  | "template"
>;

function wantedOf({ location, tags = {}, identity, managedBy, properties = {} }: AppBody): Wanted {
  return {
    location,
    tags,
    identityType: identity?.type ?? "None",
    identities: Object.keys(identity?.userAssignedIdentities ?? {}),
    managedBy,
    workloadProfileName: properties.workloadProfileName,
    environmentId: properties.environmentId ?? properties.managedEnvironmentId ?? "",
    configuration: properties.configuration ?? {},
    template: properties.template ?? {},
  };
}

/** The body that would make an app what it is, with the values of its secrets where they were given so. */
function bodyOf(app: Wanted): AppBody {
  const { location, tags, managedBy, workloadProfileName, environmentId, configuration, template } = app;
  return {
    location,
    tags,
    managedBy,
    identity: {
      type: app.identityType as NonNullable<AppBody["identity"]>["type"],
      userAssignedIdentities: Object.fromEntries(app.identities.map((id) => [id, {}])),
    },
    properties: { environmentId, workloadProfileName, configuration, template },
  };
}

async function put(world: World, call: Call): Promise<Answer> {
  const wanted = wantedOf(validBody(appBody, call, world.violations));
  const existing = current(world, call.path);
  refuseBusy(existing);
  const { app, plan, isChanged } = await apply(world, call, existing, wanted);
  if (plan.kind === "taken") throw takenSuffix(plan.suffix);
  if (!isChanged) return { status: 200, body: shownApp(world, app) };
  const { asyncOperation } = begin(world, call, app);
  return {
    status: 201,
    body: shownApp(world, app),
    headers: { "azure-asyncoperation": asyncOperation, "retry-after": "0" },
  };
}

async function patch(world: World, call: Call): Promise<Answer> {
  const changes = validBody(appPatch, call, world.violations);
  const existing = find(world, call);
  refuseBusy(existing);
  const wanted = wantedOf(mergePatch(bodyOf(existing), changes) as AppBody);
  const { app, plan } = await apply(world, call, existing, wanted);
  // Accepted, as measured by others, and found wrong only then.
  const error =
    plan.kind === "taken"
      ? { code: "ContainerAppOperationError", message: takenSuffix(plan.suffix).message }
      : undefined;
  const { asyncOperation, location } = begin(world, call, app, error);
  return { status: 202, headers: { "azure-asyncoperation": asyncOperation, location, "retry-after": "0" } };
}

/** Makes the app what is wanted, unless that needs a revision that can't be. @throws Refusal, nothing done, when something is wrong. */
async function apply(world: World, call: Call, existing: App | undefined, wanted: Wanted) {
  const name = existing?.name ?? call.params["name"] ?? "";
  checkName("ContainerApp", call.params["name"] ?? "");
  check(world, name, wanted, existing);
  const secrets = resolveSecrets(world, wanted.configuration.secrets ?? [], wanted.identities);
  const plan = planRevision(existing ?? { name, revisions: new Map(), latestRevisionName: "" }, wanted.template);
  const isChanged =
    existing?.provisioningState !== "Succeeded" ||
    plan.kind !== "none" ||
    canonical(pick(existing)) !== canonical(pick(wanted));
  if (existing !== undefined && (plan.kind === "taken" || !isChanged)) {
    existing.secrets = secrets;
    return { app: existing, plan, isChanged };
  }
  const app = existing ?? (await newApp(world, call, wanted));
  Object.assign(app, wanted, { secrets });
  if (plan.kind === "new") addRevision(world, app, plan.name, { isDoomed: call.doom !== undefined });
  else restartFailed(world, app, call.doom !== undefined);
  return { app, plan, isChanged };
}

function pick({ template: { revisionSuffix: _suffix, ...template }, ...rest }: Wanted) {
  const { location, tags, identityType, identities, managedBy, workloadProfileName, environmentId, configuration } =
    rest;
  return {
    template,
    fields: [location, tags, identityType, identities.map(keyOf).toSorted(), managedBy, workloadProfileName],
    environmentId: keyOf(environmentId),
    configuration,
  };
}

function check(world: World, name: string, wanted: Wanted, existing: App | undefined): void {
  const { environmentId, location, configuration, template, identities, workloadProfileName } = wanted;
  checkEnvironment(world, environmentId, location);
  if (existing !== undefined && keyOf(existing.environmentId) !== keyOf(environmentId))
    throw new Refusal(400, "ContainerAppEnvironmentMismatch", `The environment of '${name}' can't be changed.`);
  checkIdentities(world, identities);
  const secrets = configuration.secrets ?? [];
  const onConsumption = (workloadProfileName ?? "Consumption") === "Consumption";
  checkTemplate(world, template, { environmentId, secrets, onConsumption });
  const isAssigned = (identity: string): boolean => identities.some((id) => keyOf(id) === keyOf(identity));
  for (const { identity } of configuration.identitySettings ?? [])
    if (!isAssigned(identity))
      throw invalidFields([
        { field: "configuration.identitySettings", value: identity, problem: "it isn't assigned to the app" },
      ]);
  for (const { server = "", identity } of configuration.registries ?? [])
    if (identity !== undefined && !isAssigned(identity))
      throw invalidFields([
        { field: "configuration.registries", value: server, problem: `identity ${identity} isn't assigned to the app` },
      ]);
}

async function newApp(world: World, call: Call, wanted: Wanted): Promise<App> {
  const { name = "", group = "" } = call.params;
  const port = await world.openIngress(keyOf(call.path));
  const other = world.apps.get(keyOf(call.path));
  if (other !== undefined) {
    world.closeIngress(port);
    throw busy(other);
  }
  const app: App = {
    ...wanted,
    id: call.path,
    name,
    group,
    secrets: new Map(),
    provisioningState: "InProgress",
    revisions: new Map(),
    latestRevisionName: "",
    latestReadyRevisionName: "",
    operation: undefined,
    createdAt: nowText(),
    port,
  };
  world.apps.set(keyOf(call.path), app);
  return app;
}

/** What a failed operation left behind is begun anew. */
function restartFailed(world: World, app: App, isDoomed: boolean): void {
  const latest = app.revisions.get(app.latestRevisionName);
  if (latest?.provisioningState !== "Failed" || isDoomed) return;
  latest.provisioningState = "Provisioning";
  if (latest.active) startReplica(world, app, latest);
}

function begin(world: World, call: Call, app: App, error?: { code: string; message: string }) {
  app.provisioningState = "InProgress";
  app.operation = beginOperation(world, call, {
    resourceId: app.id,
    location: app.location,
    kind: "containerapp",
    pending: world.settle.operationPolls,
    error,
    result: () => shownApp(world, app),
    finish(succeeded) {
      app.provisioningState = succeeded ? "Succeeded" : "Failed";
      const latest = app.revisions.get(app.latestRevisionName);
      if (latest?.provisioningState === "Provisioning") latest.provisioningState = succeeded ? "Provisioned" : "Failed";
    },
  });
  return followHeaders(world, app.operation);
}

async function get(world: World, call: Call): Promise<Answer> {
  const app = find(world, call);
  await observe(world, app);
  return { status: 200, body: shownApp(world, app) };
}

function list(world: World, call: Call): Promise<Answer> {
  return page(world, call, below(world.apps, call), async (app) => {
    if (app.operation !== undefined) advance(app.operation);
    await observe(world, app);
    return shownApp(world, app);
  });
}

function remove(world: World, call: Call): Answer {
  const app = current(world, call.path);
  if (app === undefined) return { status: 204 };
  refuseLocked(world, call.path);
  if (app.provisioningState !== "Deleting" || app.operation === undefined) {
    refuseBusy(app);
    app.operation = beginRemoval(world, call, app);
  }
  const { location } = followHeaders(world, app.operation);
  return { status: 202, headers: { location, "retry-after": "0" } };
}

function beginRemoval(world: World, call: Call, app: App) {
  app.provisioningState = "Deleting";
  const revisions = [...app.revisions.values()];
  if (call.doom === undefined) for (const revision of revisions) stopReplica(world, revision);
  for (const revision of revisions) revision.draining = 0;
  return beginOperation(world, call, {
    resourceId: app.id,
    location: app.location,
    kind: "containerapp",
    pending: world.settle.deletePolls,
    isDone: () => call.doom !== undefined || !revisions.some(isRunning),
    finish(succeeded) {
      if (!succeeded) {
        app.provisioningState = "Failed";
        return;
      }
      world.apps.delete(keyOf(app.id));
      world.closeIngress(app.port);
    },
  });
}

function listSecrets(world: World, call: Call): Answer {
  const app = find(world, call);
  const value = (app.configuration.secrets ?? []).map((setting) => ({
    ...setting,
    value: app.secrets.get(setting.name ?? ""),
  }));
  return { status: 200, body: { value } };
}

const { ofGroup, ofSubscription } = routesOf("Microsoft.App", "2025-07-01");

export const APP_ROUTES: readonly Route[] = [
  ofGroup("PUT", "containerApps/{name}", put),
  ofGroup("PATCH", "containerApps/{name}", patch),
  ofGroup("GET", "containerApps/{name}", get),
  ofGroup("DELETE", "containerApps/{name}", remove),
  ofGroup("GET", "containerApps", list),
  ofSubscription("GET", "containerApps", list),
  ofGroup("POST", "containerApps/{name}/listSecrets", listSecrets),
];
