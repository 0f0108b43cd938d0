import { type Healths, isRunning } from "./replicas.ts";
import { keyOf, shownId, shownLocation } from "./resource-id.ts";
import type { Template } from "./schema.ts";
import type { App, Revision, World } from "./world.ts";

const DEFAULT_MAX_REPLICAS = 10;

/** An app as GET shows it: ids and location in other casing, defaults filled in, secrets without their values. */
export function shownApp(world: World, app: App): Record<string, unknown> {
  const { configuration, identities } = app;
  const isRunning = [...app.revisions.values()].some(({ active }) => active);
  const secrets = (configuration.secrets ?? []).map(({ value: _value, ...rest }) => rest);
  const { traffic = [{ weight: 100, latestRevision: true }], ...ingress } = configuration.ingress ?? {};
  return {
    id: shownId(app.id),
    name: app.name,
    type: "Microsoft.App/containerApps",
    location: shownLocation(app.location),
    tags: app.tags,
    systemData: { createdAt: app.createdAt, createdByType: "Application" },
    ...(app.managedBy === undefined ? {} : { managedBy: app.managedBy }),
    identity: {
      type: app.identityType,
      ...(identities.length === 0 ? {} : { userAssignedIdentities: shownIdentities(world, identities) }),
    },
    properties: {
      provisioningState: app.provisioningState,
      runningStatus: isRunning ? "Running" : "Stopped",
      managedEnvironmentId: app.environmentId,
      environmentId: app.environmentId,
      workloadProfileName: app.workloadProfileName ?? "Consumption",
      latestRevisionName: app.latestRevisionName,
      latestReadyRevisionName: app.latestReadyRevisionName,
      latestRevisionFqdn: configuration.ingress === undefined ? "" : fqdnOf(app),
      outboundIpAddresses: ["127.0.0.1"],
      configuration: {
        maxInactiveRevisions: 100,
        dapr: null,
        ...configuration,
        activeRevisionsMode: configuration.activeRevisionsMode ?? "Single",
        secrets: secrets.length === 0 ? null : secrets,
        registries: configuration.registries ?? null,
        ingress:
          configuration.ingress === undefined
            ? null
            : {
                external: false,
                exposedPort: 0,
                allowInsecure: false,
                customDomains: null,
                ...ingress,
                fqdn: fqdnOf(app),
                transport: capitalised(ingress.transport ?? "auto"),
                traffic,
              },
      },
      template: shownTemplate(app.template),
    },
  };
}

function fqdnOf({ port }: App): string {
  return `127.0.0.1:${port}`;
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function shownIdentities(world: World, ids: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    ids.map((id) => {
      const { principalId, clientId } = world.identities.get(keyOf(id)) ?? {};
      return [shownId(id), { principalId, clientId }];
    }),
  );
}

function shownTemplate(template: Template): Record<string, unknown> {
  return {
    revisionSuffix: "",
    terminationGracePeriodSeconds: null,
    initContainers: null,
    volumes: null,
    serviceBinds: null,
    ...template,
    containers: (template.containers ?? []).map((container) => ({
      ...container,
      resources: { cpu: 0.5, memory: "1Gi", ephemeralStorage: "4Gi", ...container.resources },
    })),
    scale: {
      minReplicas: null,
      maxReplicas: DEFAULT_MAX_REPLICAS,
      cooldownPeriod: 300,
      pollingInterval: 30,
      rules: null,
      ...template.scale,
    },
  };
}

/** A revision as GET shows it. */
export function shownRevision(app: App, revision: Revision, healths: Healths): Record<string, unknown> {
  const health = healths.get(revision.name) ?? "none";
  const { minReplicas = 0, maxReplicas = DEFAULT_MAX_REPLICAS } = revision.template.scale ?? {};
  const replicas = !isRunning(revision) ? 0 : Math.max(1, revision.active ? minReplicas : 0);
  const isLatest = revision.name === app.latestRevisionName;
  return {
    id: `${shownId(app.id)}/revisions/${revision.name}`,
    name: revision.name,
    type: "Microsoft.App/containerapps/revisions",
    properties: {
      createdTime: revision.createdTime,
      fqdn: fqdnOf(app),
      template: shownTemplate(revision.template),
      active: revision.active,
      replicas,
      trafficWeight: isLatest ? 100 : 0,
      provisioningState: revision.provisioningState,
      ...(revision.failure === undefined ? {} : { provisioningError: revision.failure }),
      healthState: HEALTH_STATES[health],
      runningState: health === "healthy" && replicas >= maxReplicas ? "RunningAtMaxScale" : RUNNING_STATES[health],
    },
  };
}

const HEALTH_STATES = {
  healthy: "Healthy",
  unhealthy: "Unhealthy",
  failed: "Unhealthy",
  starting: "None",
  none: "None",
} as const;
const RUNNING_STATES = {
  healthy: "Running",
  unhealthy: "Degraded",
  failed: "Failed",
  starting: "Processing",
  none: "Stopped",
} as const;
