import { randomBytes } from "node:crypto";
import { canonical } from "./canonical.ts";
import { nowText } from "./clock.ts";
import { checkEnvironment, checkIdentities, checkName, checkTemplate } from "./app-rules.ts";
import { resolveSecrets } from "./app-secrets.ts";
import { runJob } from "./job-run.ts";
import { refuseLocked } from "./locks.ts";
import { environmentOf, mountsOf } from "./mounts.ts";
import { advance, beginOperation, followHeaders } from "./operations.ts";
import { invalidFields, notFound, Refusal } from "./refusal.ts";
import { pullProblem } from "./registry.ts";
import { keyOf, shownId, shownLocation } from "./resource-id.ts";
import { below, page, routesOf, type Route } from "./routing.ts";
import { jobBody, type JobBody, type JobStartBody, jobStartBody, type TemplateContainer, validBody } from "./schema.ts";
import type { Answer, Call, Execution, Job, World } from "./world.ts";

function put(world: World, call: Call): Answer {
  const body = validBody(jobBody, call, world.violations);
  const { name = "", group = "" } = call.params;
  const existing = current(world, call.path);
  refuseBusy(existing);
  checkName("Job", name);
  const secrets = check(world, body);
  const isSame = existing?.provisioningState === "Succeeded" && canonical(existing.body) === canonical(body);
  const { location, tags = {} } = body;
  const job: Job = {
    id: call.path,
    name,
    group,
    executions: new Map(),
    operation: undefined,
    provisioningState: "InProgress",
    ...existing,
    location,
    tags,
    body,
    secrets,
  };
  world.jobs.set(keyOf(call.path), job);
  if (isSame) return { status: 200, body: shown(job) };
  job.provisioningState = "InProgress";
  job.operation = beginOperation(world, call, {
    resourceId: job.id,
    location,
    kind: "containerappsjob",
    pending: world.settle.operationPolls,
    result: () => shown(job),
    finish(succeeded) {
      job.provisioningState = succeeded ? "Succeeded" : "Failed";
    },
  });
  const { asyncOperation } = followHeaders(world, job.operation);
  return { status: 201, body: shown(job), headers: { "azure-asyncoperation": asyncOperation, "retry-after": "0" } };
}

function check(world: World, { location, identity, properties = {} }: JobBody): Map<string, string> {
  const { environmentId = "", configuration, template = {}, workloadProfileName = "Consumption" } = properties;
  checkEnvironment(world, environmentId, location);
  const identities = Object.keys(identity?.userAssignedIdentities ?? {});
  checkIdentities(world, identities);
  if (configuration?.triggerType !== "Manual")
    throw new Refusal(400, "InvalidJobTrigger", "Only jobs that are started by hand are known on loopback.");
  const secrets = configuration.secrets ?? [];
  checkTemplate(world, template, { environmentId, secrets, onConsumption: workloadProfileName === "Consumption" });
  return resolveSecrets(world, secrets, identities);
}

function current(world: World, path: string): Job | undefined {
  const job = world.jobs.get(keyOf(path));
  if (job?.operation !== undefined) advance(job.operation);
  return world.jobs.get(keyOf(path));
}

function find(world: World, { params }: Call): Job {
  const { subscription = "", group = "", name = "" } = params;
  const id = `/subscriptions/${subscription}/resourceGroups/${group}/providers/Microsoft.App/jobs/${name}`;
  const job = current(world, id);
  if (job === undefined) throw notFound("Microsoft.App/jobs", name, group);
  return job;
}

function refuseBusy(job: Job | undefined): void {
  if (job?.operation?.status !== "InProgress") return;
  const message = `Cannot modify a job '${job.name}' because there is an active provisioning operation in progress. Please retry the operation later.`;
  throw new Refusal(409, "ContainerAppsJobOperationInProgress", message);
}

function remove(world: World, call: Call): Answer {
  const job = current(world, call.path);
  if (job === undefined) return { status: 204 };
  refuseLocked(world, call.path);
  if (job.provisioningState !== "Deleting" || job.operation === undefined) {
    refuseBusy(job);
    job.provisioningState = "Deleting";
    for (const execution of job.executions.values()) execution.stop();
    job.operation = beginOperation(world, call, {
      resourceId: job.id,
      location: job.location,
      kind: "containerappsjob",
      pending: world.settle.deletePolls,
      finish(succeeded) {
        if (succeeded) world.jobs.delete(keyOf(job.id));
        else job.provisioningState = "Failed";
      },
    });
  }
  const { location } = followHeaders(world, job.operation);
  return { status: 202, headers: { location, "retry-after": "0" } };
}

function start(world: World, call: Call): Answer {
  const given = call.body === undefined ? {} : validBody(jobStartBody, call, world.violations);
  const job = find(world, call);
  refuseBusy(job);
  if (job.provisioningState !== "Succeeded")
    throw new Refusal(409, "ContainerAppsJobNotReady", `Job '${job.name}' is in state ${job.provisioningState}.`);
  const execution = execute(world, job, given);
  job.executions.set(execution.name, execution);
  const named = { id: `${shownId(job.id)}/executions/${execution.name}`, name: execution.name };
  const operation = beginOperation(world, call, {
    resourceId: job.id,
    location: job.location,
    kind: "containerappsjob",
    pending: world.settle.operationPolls,
    result: () => named,
    finish: () => {},
  });
  const { location } = followHeaders(world, operation);
  return { status: 202, body: named, headers: { location, "retry-after": "0" } };
}

/**
 * The job's own container, or the one that the start brings in its place: nothing of the job's is kept then but what is mounted, which a
 * start can't say. Whether Azure keeps that is not documented; its engineers promised it (microsoft/azure-container-apps#909).
 */
function execute(world: World, job: Job, given: JobStartBody): Execution {
  const { template = {}, environmentId = "", configuration } = job.body.properties ?? {};
  const [own] = template.containers ?? [];
  const replaced = given.containers?.[0];
  if (replaced !== undefined && replaced.image === undefined)
    throw invalidFields([{ field: "containers.image", value: "", problem: "it is required" }]);
  const { volumeMounts } = own ?? {};
  const container: TemplateContainer = replaced === undefined ? { ...own } : { ...replaced, volumeMounts };
  const { volumes } = template;
  const mounts = mountsOf(world, { environmentId, volumes, container, secrets: job.secrets });
  const execution: Execution = {
    name: `${job.name}-${randomBytes(4).toString("hex").slice(0, 7)}`,
    startTime: nowText(),
    endTime: undefined,
    status: "Running",
    output: "",
    template: { containers: [container] },
    stop: () => {},
  };
  const problem =
    typeof mounts === "string" ? mounts : pullProblem(world, container.image ?? "", configuration?.registries ?? []);
  if (typeof mounts === "string" || problem !== undefined) return end(execution, "Failed", problem ?? "");
  const run = runJob({
    command: [...(container.command ?? []), ...(container.args ?? [])],
    env: environmentOf(container, job.secrets),
    mounts,
    folder: world.folder,
    timeoutMs: (configuration?.replicaTimeout ?? 60) * 1_000,
  });
  execution.stop = run.stop;
  void run.ended.then(({ succeeded, output }) => end(execution, succeeded ? "Succeeded" : "Failed", output));
  return execution;
}

function end(execution: Execution, status: Execution["status"], output: string): Execution {
  return Object.assign(execution, { status, output, endTime: nowText() });
}

function shownExecution(job: Job, { name, status, startTime, endTime, template }: Execution) {
  return {
    id: `${shownId(job.id)}/executions/${name}`,
    name,
    type: "Microsoft.App/jobs/executions",
    properties: { status, startTime, ...(endTime === undefined ? {} : { endTime }), template },
  };
}

function getExecution(world: World, call: Call): Answer {
  const job = find(world, call);
  const execution = job.executions.get(call.params["execution"] ?? "");
  if (execution === undefined)
    throw new Refusal(404, "JobExecutionNotFound", `Execution '${call.params["execution"]}' was not found.`);
  return { status: 200, body: shownExecution(job, execution) };
}

function listExecutions(world: World, call: Call): Promise<Answer> {
  const job = find(world, call);
  return page(world, call, [...job.executions], (execution) => shownExecution(job, execution));
}

function shown(job: Job) {
  const { identity, properties = {} } = job.body;
  const { secrets = [], ...configuration } = properties.configuration ?? {};
  return {
    id: shownId(job.id),
    name: job.name,
    type: "Microsoft.App/jobs",
    location: shownLocation(job.location),
    tags: job.tags,
    identity: identity ?? { type: "None" },
    properties: {
      ...properties,
      workloadProfileName: properties.workloadProfileName ?? "Consumption",
      provisioningState: job.provisioningState,
      configuration: {
        ...configuration,
        secrets: secrets.length === 0 ? null : secrets.map(({ value: _value, ...rest }) => rest),
      },
    },
  };
}

function list(world: World, call: Call): Promise<Answer> {
  return page(world, call, below(world.jobs, call), (job) => {
    if (job.operation !== undefined) advance(job.operation);
    return shown(job);
  });
}

const { ofGroup, ofSubscription } = routesOf("Microsoft.App", "2025-07-01");

export const JOB_ROUTES: readonly Route[] = [
  ofGroup("PUT", "jobs/{name}", put),
  ofGroup("GET", "jobs/{name}", (world, call) => ({ status: 200, body: shown(find(world, call)) })),
  ofGroup("DELETE", "jobs/{name}", remove),
  ofGroup("GET", "jobs", list),
  ofSubscription("GET", "jobs", list),
  ofGroup("POST", "jobs/{name}/start", start),
  ofGroup("GET", "jobs/{name}/executions", listExecutions),
  ofGroup("GET", "jobs/{name}/executions/{execution}", getExecution),
];
