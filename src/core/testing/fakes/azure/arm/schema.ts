import { z } from "zod";
import { Refusal } from "./refusal.ts";

/*
 * The bodies that may be sent, as the public descriptions of the pinned versions have them: every field that may be written, nothing
 * else; fields that are read-only there are not here. Sources: in Azure/azure-rest-api-specs, below `specification/`,
 * `app/resource-manager/Microsoft.App/ContainerApps/stable/2025-07-01/{ContainerApps,CommonDefinitions,Jobs,ManagedEnvironmentsStorages}.json`
 * and `msi/resource-manager/Microsoft.ManagedIdentity/ManagedIdentity/stable/2024-11-30/ManagedIdentity.json`; `RoleAssignmentCreateParameters`
 * of @azure/arm-authorization 9.0.0 (2022-04-01) and `FileShare` of @azure/arm-storage 20.0.0 (2025-08-01). What the control plane has
 * no use for, such as Dapr, is left out: a request with it is refused here too.
 */

const tags = z
  .record(z.string().regex(/^[^<>%&\\?/]{1,512}$/), z.string().max(256))
  .refine((given) => Object.keys(given).length <= 50, "there are more than 50");

const environmentVariable = z
  .strictObject({ name: z.string().min(1), value: z.string().optional(), secretRef: z.string().optional() })
  .refine(({ value, secretRef }) => value === undefined || secretRef === undefined, "has a value and a secretRef");

const httpGet = z.strictObject({
  host: z.string().optional(),
  httpHeaders: z.array(z.strictObject({ name: z.string(), value: z.string() })).optional(),
  path: z.string().optional(),
  port: z.int(),
  scheme: z.enum(["HTTP", "HTTPS"]).optional(),
});

const probe = z.strictObject({
  type: z.enum(["Liveness", "Readiness", "Startup"]).optional(),
  httpGet: httpGet.optional(),
  tcpSocket: z.strictObject({ host: z.string().optional(), port: z.int() }).optional(),
  failureThreshold: z.int().min(1).max(10).optional(),
  initialDelaySeconds: z.int().min(1).max(60).optional(),
  periodSeconds: z.int().min(1).max(240).optional(),
  successThreshold: z.int().min(1).max(10).optional(),
  timeoutSeconds: z.int().min(1).max(240).optional(),
  terminationGracePeriodSeconds: z.int().min(0).max(3_600).optional(),
});

const baseContainer = z.strictObject({
  image: z.string().optional(),
  name: z.string().optional(),
  command: z.array(z.string()).optional(),
  args: z.array(z.string()).optional(),
  env: z.array(environmentVariable).optional(),
  resources: z.strictObject({ cpu: z.number().optional(), memory: z.string().optional() }).optional(),
  volumeMounts: z
    .array(
      z.strictObject({
        volumeName: z.string().optional(),
        mountPath: z
          .string()
          .regex(/^[^:]*$/)
          .optional(),
        subPath: z.string().optional(),
      }),
    )
    .optional(),
});
const container = baseContainer.extend({ probes: z.array(probe).optional() });

const volume = z.strictObject({
  name: z.string().optional(),
  storageType: z.enum(["AzureFile", "EmptyDir", "Secret", "NfsAzureFile"]).optional(),
  storageName: z.string().optional(),
  secrets: z.array(z.strictObject({ secretRef: z.string().optional(), path: z.string().optional() })).optional(),
  mountOptions: z.string().optional(),
});

const template = z.strictObject({
  revisionSuffix: z.string().optional(),
  terminationGracePeriodSeconds: z.int().min(0).optional(),
  initContainers: z.array(baseContainer).optional(),
  containers: z.array(container).optional(),
  scale: z
    .strictObject({
      minReplicas: z.int().optional(),
      maxReplicas: z.int().optional(),
      cooldownPeriod: z.int().optional(),
      pollingInterval: z.int().optional(),
      rules: z.array(z.looseObject({ name: z.string().optional() })).optional(),
    })
    .optional(),
  volumes: z.array(volume).optional(),
});

const secret = z.strictObject({
  name: z.string().optional(),
  value: z.string().optional(),
  identity: z.string().optional(),
  keyVaultUrl: z.string().optional(),
});
const registry = z.strictObject({
  server: z.string().optional(),
  username: z.string().optional(),
  passwordSecretRef: z.string().optional(),
  identity: z.string().optional(),
});
const identitySettings = z.strictObject({
  identity: z.string(),
  lifecycle: z.enum(["Init", "Main", "None", "All"]).optional(),
});

const configuration = z.strictObject({
  secrets: z.array(secret).optional(),
  activeRevisionsMode: z.enum(["Multiple", "Single"]).optional(),
  ingress: z
    .strictObject({
      external: z.boolean().optional(),
      targetPort: z.int().optional(),
      exposedPort: z.int().optional(),
      transport: z.enum(["auto", "http", "http2", "tcp"]).optional(),
      traffic: z
        .array(
          z.strictObject({
            revisionName: z.string().optional(),
            weight: z.int().optional(),
            latestRevision: z.boolean().optional(),
            label: z.string().optional(),
          }),
        )
        .optional(),
      allowInsecure: z.boolean().optional(),
      stickySessions: z.strictObject({ affinity: z.enum(["sticky", "none"]).optional() }).optional(),
      clientCertificateMode: z.enum(["ignore", "accept", "require"]).optional(),
      additionalPortMappings: z
        .array(z.strictObject({ external: z.boolean(), targetPort: z.int(), exposedPort: z.int().optional() }))
        .optional(),
    })
    .optional(),
  registries: z.array(registry).optional(),
  maxInactiveRevisions: z.int().optional(),
  identitySettings: z.array(identitySettings).optional(),
});

const managedIdentity = z.strictObject({
  type: z.enum(["None", "SystemAssigned", "UserAssigned", "SystemAssigned,UserAssigned"]),
  userAssignedIdentities: z.record(z.string(), z.strictObject({}).nullable()).optional(),
});

const appFields = z.strictObject({
  tags: tags.optional(),
  identity: managedIdentity.optional(),
  managedBy: z.string().optional(),
  properties: z
    .strictObject({
      environmentId: z.string().optional(),
      managedEnvironmentId: z.string().optional(),
      workloadProfileName: z.string().optional(),
      configuration: configuration.optional(),
      template: template.optional(),
    })
    .optional(),
});
export const appBody = appFields.extend({ location: z.string() });
export const appPatch = appFields.extend({ location: z.string().optional() });

export const jobBody = z.strictObject({
  location: z.string(),
  tags: tags.optional(),
  identity: managedIdentity.optional(),
  properties: z
    .strictObject({
      environmentId: z.string().optional(),
      workloadProfileName: z.string().optional(),
      configuration: z
        .strictObject({
          secrets: z.array(secret).optional(),
          triggerType: z.enum(["Schedule", "Event", "Manual"]),
          replicaTimeout: z.int(),
          replicaRetryLimit: z.int().optional(),
          manualTriggerConfig: z
            .strictObject({ replicaCompletionCount: z.int().optional(), parallelism: z.int().optional() })
            .optional(),
          registries: z.array(registry).optional(),
          identitySettings: z.array(identitySettings).optional(),
        })
        .optional(),
      template: z
        .strictObject({
          initContainers: z.array(baseContainer).optional(),
          containers: z.array(container).optional(),
          volumes: z.array(volume).optional(),
        })
        .optional(),
    })
    .optional(),
});

/** What a start may put in place of the job's own containers; it can say nothing of volumes. */
const executionContainer = baseContainer.omit({ volumeMounts: true });
export const jobStartBody = z.strictObject({
  containers: z.array(executionContainer).optional(),
  initContainers: z.array(executionContainer).optional(),
});

const accessMode = z.enum(["ReadOnly", "ReadWrite"]);
export const environmentStorageBody = z.strictObject({
  properties: z
    .strictObject({
      azureFile: z
        .strictObject({
          accountName: z.string().optional(),
          accountKey: z.string().optional(),
          accessMode: accessMode.optional(),
          shareName: z.string().optional(),
        })
        .optional(),
      nfsAzureFile: z
        .strictObject({
          server: z.string().optional(),
          accessMode: accessMode.optional(),
          shareName: z.string().optional(),
        })
        .optional(),
    })
    .optional(),
});

export const identityBody = z.strictObject({
  location: z.string(),
  tags: tags.optional(),
  properties: z.strictObject({ isolationScope: z.enum(["None", "Regional"]).optional() }).optional(),
});

export const roleAssignmentBody = z.strictObject({
  properties: z.strictObject({
    roleDefinitionId: z.string(),
    principalId: z.string(),
    principalType: z.enum(["User", "Group", "ServicePrincipal", "ForeignGroup", "Device"]).optional(),
    description: z.string().optional(),
    condition: z.string().optional(),
    conditionVersion: z.string().optional(),
    delegatedManagedIdentityResourceId: z.string().optional(),
  }),
});

export const shareBody = z.strictObject({
  properties: z
    .strictObject({
      metadata: tags.optional(),
      shareQuota: z.int().min(1).max(102_400).optional(),
      provisionedIops: z.int().optional(),
      provisionedBandwidthMibps: z.int().optional(),
      enabledProtocols: z.enum(["SMB", "NFS"]).optional(),
      rootSquash: z.enum(["NoRootSquash", "RootSquash", "AllSquash"]).optional(),
      accessTier: z.enum(["TransactionOptimized", "Hot", "Cool", "Premium"]).optional(),
    })
    .optional(),
});

/** The body that `schema` describes. @throws Refusal, after noting every field that is wrong as a violation. */
export function validBody<Body>(
  schema: z.ZodType<Body>,
  { method, path, body }: { method: string; path: string; body: unknown },
  violations: string[],
): Body {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(
    ({ path: field, message }) => `${field.join(".") || "the body"}: ${message}`,
  );
  violations.push(...problems.map((problem) => `${method} ${path}: ${problem}`));
  throw new Refusal(400, "InvalidRequestContent", `The request content was invalid: ${problems.join("; ")}`);
}

export type AppBody = z.infer<typeof appBody>;
export type AppPatch = z.infer<typeof appPatch>;
export type Template = z.infer<typeof template>;
export type Configuration = z.infer<typeof configuration>;
export type TemplateContainer = z.infer<typeof container>;
export type SecretSetting = z.infer<typeof secret>;
export type JobBody = z.infer<typeof jobBody>;
export type JobStartBody = z.infer<typeof jobStartBody>;
export type EnvironmentStorageBody = z.infer<typeof environmentStorageBody>;
export type ShareBody = z.infer<typeof shareBody>;
