import type { Stamp } from "../../../../platform/config.ts";
import { invalidFields, Refusal, type FieldProblem } from "./refusal.ts";
import { keyOf, sameLocation } from "./resource-id.ts";
import type { SecretSetting, Template, TemplateContainer } from "./schema.ts";
import type { World } from "./world.ts";

/** @throws Refusal unless Container Apps would take the name. */
export function checkName(kind: "ContainerApp" | "Job", name: string): void {
  if (/^[a-z](?!.*--)[a-z0-9-]{0,30}[a-z0-9]$/.test(name)) return;
  throw new Refusal(
    400,
    kind === "Job" ? "ContainerAppsJobInvalidName" : "ContainerAppInvalidName",
    `Invalid ${kind} name '${name}'. A name must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character and cannot have '--'. The length must be between 2 and 32 characters inclusive.`,
  );
}

/** The stamp whose environment it is. @throws Refusal for an unknown environment or another location. */
export function checkEnvironment(world: World, environmentId: string, location: string): Stamp {
  const stamp = world.stamps.find((one) => keyOf(one.environmentId) === keyOf(environmentId));
  if (stamp === undefined)
    throw new Refusal(400, "ManagedEnvironmentNotFound", `The environment '${environmentId}' was not found.`);
  if (sameLocation(stamp.location, location)) return stamp;
  throw new Refusal(
    400,
    "LocationNotAvailableForResourceType",
    `The location '${location}' isn't the one of the environment '${environmentId}', '${stamp.location}'.`,
  );
}

/** @throws Refusal when an identity that is to be assigned doesn't exist. */
export function checkIdentities(world: World, ids: readonly string[]): void {
  const unknown = ids.find((id) => !world.identities.has(keyOf(id)));
  if (unknown === undefined) return;
  throw new Refusal(
    400,
    "FailedIdentityOperation",
    `Identity operation for resource failed with error 'Failed to perform resource identity operation. Status: 'BadRequest'. Response: '{"error":{"code":"BadRequest","message":"Resource '${unknown}' was not found."}}'.`,
  );
}

type Parts = Pick<Template, "containers" | "initContainers" | "volumes">;

/** @throws Refusal naming every field of a template that is wrong by itself or for what it refers to. */
export function checkTemplate(
  world: World,
  template: Parts,
  {
    environmentId,
    secrets,
    onConsumption,
  }: { environmentId: string; secrets: readonly SecretSetting[]; onConsumption: boolean },
): void {
  const containers = template.containers ?? [];
  const problems: FieldProblem[] = [];
  if (containers.length === 0) problems.push({ field: "template.containers", value: "[]", problem: "it is required" });
  const names = new Set(secrets.map(({ name }) => name));
  const volumes = new Set((template.volumes ?? []).map(({ name }) => name));
  for (const one of [...containers, ...(template.initContainers ?? [])])
    problems.push(...containerProblems(one, names, volumes));
  for (const { name = "", storageType, storageName = "", secrets: items = [] } of template.volumes ?? []) {
    if (storageType === "AzureFile" || storageType === "NfsAzureFile") {
      if (!world.storages.has(keyOf(`${environmentId}/storages/${storageName}`)))
        problems.push({
          field: `template.volumes.${name}.storagename`,
          value: storageName,
          problem: "managed environment storage was not found",
        });
    }
    for (const { secretRef = "" } of items)
      if (!names.has(secretRef)) problems.push(missingSecret(`template.volumes.${name}`, secretRef));
  }
  if (problems.length > 0) throw invalidFields(problems);
  if (onConsumption) checkResources(containers);
}

function containerProblems(
  { name = "", image, env = [], volumeMounts = [] }: TemplateContainer,
  secrets: ReadonlySet<string | undefined>,
  volumes: ReadonlySet<string | undefined>,
): FieldProblem[] {
  const field = `template.containers.${name}`;
  const problems: FieldProblem[] = [];
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name))
    problems.push({
      field: "template.containers.name",
      value: name,
      problem: "it must be a lower case RFC 1123 label",
    });
  if (image === undefined || image === "" || /\s/.test(image))
    problems.push({ field: `${field}.image`, value: image ?? "", problem: "it isn't a reference of an image" });
  for (const { secretRef } of env)
    if (secretRef !== undefined && !secrets.has(secretRef)) problems.push(missingSecret(`${field}.env`, secretRef));
  for (const { volumeName = "", mountPath = "" } of volumeMounts)
    if (!volumes.has(volumeName) || !mountPath.startsWith("/"))
      problems.push({
        field: `${field}.volumeMounts`,
        value: volumeName,
        problem: "there is no such volume, or no path",
      });
  return problems;
}

function missingSecret(field: string, secretRef: string): FieldProblem {
  return { field, value: secretRef, problem: `SecretRef '${secretRef}' defined for container is not found` };
}

/** Only steps of a quarter core, with 2 GiB a core, up to 4 cores. */
function checkResources(containers: readonly TemplateContainer[]): void {
  const cpu = containers.reduce((sum, { resources }) => sum + (resources?.cpu ?? 0.5), 0);
  const memory = containers.reduce(
    (sum, { resources }) => sum + Number(/^([\d.]+)Gi$/.exec(resources?.memory ?? "1Gi")?.[1]),
    0,
  );
  if (cpu > 0 && cpu <= 4 && Number.isInteger(cpu * 4) && memory === cpu * 2) return;
  throw new Refusal(
    400,
    "ContainerAppInvalidResourceTotal",
    `The total requested CPU and memory resources for this application (CPU: ${cpu}, memory: ${memory}) is invalid. Total CPU and memory for all containers defined in a Container App must add up to one of the combinations of a quarter to 4 cores with 2Gi a core.`,
  );
}
