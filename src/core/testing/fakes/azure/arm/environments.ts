import type { Stamp } from "../../../../platform/config.ts";
import { checkName } from "./app-rules.ts";
import { invalidFields, notFound, Refusal } from "./refusal.ts";
import { isRunning } from "./replicas.ts";
import { keyOf, shownLocation } from "./resource-id.ts";
import { page, routesOf, type Route } from "./routing.ts";
import { environmentStorageBody, validBody } from "./schema.ts";
import type { Answer, Call, EnvironmentStorage, World } from "./world.ts";

/** What Azure grants an environment unless told otherwise. */
const DEFAULT_CORES = 100;

function findEnvironment(world: World, { params }: Call): Stamp {
  const { subscription = "", group = "", environment = "" } = params;
  const id = `/subscriptions/${subscription}/resourceGroups/${group}/providers/Microsoft.App/managedEnvironments/${environment}`;
  const stamp = world.stamps.find(({ environmentId }) => keyOf(environmentId) === keyOf(id));
  if (stamp === undefined) throw notFound("Microsoft.App/managedEnvironments", environment, group);
  return stamp;
}

function getEnvironment(world: World, call: Call): Answer {
  const { environmentId, location } = findEnvironment(world, call);
  const name = call.params["environment"];
  const body = {
    id: environmentId,
    name,
    type: "Microsoft.App/managedEnvironments",
    location: shownLocation(location),
    properties: {
      provisioningState: "Succeeded",
      defaultDomain: `${name}.${location}.azurecontainerapps.io`,
      staticIp: "10.0.0.4",
      vnetConfiguration: { internal: true },
      workloadProfiles: [{ name: "Consumption", workloadProfileType: "Consumption" }],
    },
  };
  return { status: 200, body };
}

function usages(world: World, call: Call): Promise<Answer> {
  const { environmentId, coresQuota = DEFAULT_CORES } = findEnvironment(world, call);
  const inUse = [...world.apps.values()]
    .filter((app) => keyOf(app.environmentId) === keyOf(environmentId))
    .flatMap(({ revisions }) => [...revisions.values()])
    .filter(isRunning)
    .reduce((sum, { template }) => sum + (template.containers?.[0]?.resources?.cpu ?? 0.5), 0);
  const cores = {
    unit: "Count",
    currentValue: inUse,
    limit: coresQuota,
    name: { value: "ManagedEnvironmentConsumptionCores", localizedValue: "Managed Environment Consumption Cores" },
  };
  return page(world, call, [[cores.name.value, cores]], (usage) => usage);
}

function putStorage(world: World, call: Call): Answer {
  findEnvironment(world, call);
  const { properties = {} } = validBody(environmentStorageBody, call, world.violations);
  const { storage: name = "" } = call.params;
  checkName("ContainerApp", name);
  const { nfsAzureFile, azureFile } = properties;
  if ((nfsAzureFile === undefined) === (azureFile === undefined))
    throw new Refusal(400, "InvalidStorageDefinition", "Exactly one of azureFile and nfsAzureFile must be given.");
  const account = nfsAzureFile?.server?.split(".")[0];
  if (nfsAzureFile !== undefined && !nfsAzureFile.shareName?.startsWith(`/${account}/`)) {
    const problem = `it must be /account/share on the server ${nfsAzureFile.server}`;
    throw invalidFields([{ field: "nfsAzureFile.shareName", value: nfsAzureFile.shareName ?? "", problem }]);
  }
  const storage: EnvironmentStorage = { id: call.path, name, properties };
  world.storages.set(keyOf(call.path), storage);
  return { status: 200, body: shown(storage) };
}

function getStorage(world: World, call: Call): Answer {
  findEnvironment(world, call);
  const storage = world.storages.get(keyOf(call.path));
  if (storage === undefined)
    throw new Refusal(404, "ManagedEnvironmentStorageNotFound", `Storage '${call.params["storage"]}' was not found.`);
  return { status: 200, body: shown(storage) };
}

/** This list has no pages. */
function listStorages(world: World, call: Call): Answer {
  const { environmentId } = findEnvironment(world, call);
  const prefix = keyOf(`${environmentId}/storages/`);
  const found = [...world.storages].filter(([key]) => key.startsWith(prefix));
  return { status: 200, body: { value: found.map(([, storage]) => shown(storage)) } };
}

function removeStorage(world: World, call: Call): Answer {
  findEnvironment(world, call);
  return { status: world.storages.delete(keyOf(call.path)) ? 200 : 204 };
}

function shown({ id, name, properties }: EnvironmentStorage) {
  const { azureFile } = properties;
  return {
    id,
    name,
    type: "Microsoft.App/managedEnvironments/storages",
    properties: azureFile === undefined ? properties : { azureFile: { ...azureFile, accountKey: null } },
  };
}

const { ofGroup } = routesOf("Microsoft.App", "2025-07-01");

export const ENVIRONMENT_ROUTES: readonly Route[] = [
  ofGroup("GET", "managedEnvironments/{environment}", getEnvironment),
  ofGroup("GET", "managedEnvironments/{environment}/usages", usages),
  ofGroup("PUT", "managedEnvironments/{environment}/storages/{storage}", putStorage),
  ofGroup("GET", "managedEnvironments/{environment}/storages/{storage}", getStorage),
  ofGroup("GET", "managedEnvironments/{environment}/storages", listStorages),
  ofGroup("DELETE", "managedEnvironments/{environment}/storages/{storage}", removeStorage),
];
