import type { TokenCredential } from "@azure/identity";
import { type Check, type CheckResult, failed, ok, warning } from "../../../platform/check.ts";
import type { Stamp } from "../../../platform/config.ts";
import { ROLES_PER_RUNTIME, roomOf } from "../../../platform/stamps.ts";
import type { ArmClients } from "./arm-clients.ts";
import { explainArmError } from "./arm-errors.ts";
import { withArmScope } from "./arm-scope.ts";
import { PULL_IDENTITY, STATE_SHARE, environmentOf } from "./names.ts";
import { parseImage, resolveImage } from "./registry.ts";
import { ifThere } from "./steps.ts";

/** Below that, somebody should think of another stamp. */
const TIGHT = 0.1;

export type AzureChecksContext = {
  stamps: readonly Stamp[];
  /** The one that sign-ups get. */
  readImage: () => Promise<string>;
  openArm: (stamp: Stamp) => Promise<ArmClients>;
  credential: () => Promise<TokenCredential>;
  countRuntimes: (stamp: Stamp) => Promise<number>;
};

/** What runtimes on Azure stand on, stamp by stamp; nothing is changed. */
export function azureRuntimeChecks(ctx: AzureChecksContext): Check[] {
  return [
    { name: "runtime image", timeoutMs: 30_000, run: () => checkImage(ctx) },
    ...ctx.stamps.flatMap((stamp) => checksOf(ctx, stamp)),
  ];
}

function checksOf(ctx: AzureChecksContext, stamp: Stamp): Check[] {
  const look = (part: string, what: string, run: (arm: ArmClients) => Promise<CheckResult>): Check => ({
    name: `azure ${stamp.id}: ${part}`,
    timeoutMs: 30_000,
    async run() {
      const arm = await ctx.openArm(stamp);
      try {
        return await withArmScope({ urgency: "wake" }, () => run(arm));
      } catch (error) {
        throw explainArmError(error, what);
      }
    },
  });
  return [
    look("environment", "The environment could not be read", (arm) => checkEnvironment(stamp, arm)),
    look("state share", "The storage account could not be read", (arm) => checkShare(stamp, arm)),
    look("pull identity", "The pull identity could not be read", (arm) => checkPullIdentity(ctx, stamp, arm)),
    look("cores", "The environment's usage could not be read", (arm) => checkCores(stamp, arm)),
    { name: `azure ${stamp.id}: room`, run: () => checkRoom(ctx, stamp) },
  ];
}

async function checkImage({ readImage, stamps, credential }: AzureChecksContext): Promise<CheckResult> {
  const image = await readImage();
  const readToken = async () => (await (await credential()).getToken(`${MANAGEMENT}/.default`))?.token ?? "";
  const digest = await resolveImage(image, { acrServers: registriesOf(stamps), readToken });
  if (digest !== undefined) return ok(`${image} is ${digest}`);
  return failed(
    `${image} is not in its registry: every sign-up would fail`,
    "Push it, or name another in OPENCLAW_RUNTIME_IMAGE or with: openclaw fleet settings set --image",
  );
}

/** An Azure registry exchanges tokens for the resource manager. */
const MANAGEMENT = "https://management.azure.com";

async function checkEnvironment(stamp: Stamp, arm: ArmClients): Promise<CheckResult> {
  const { group, name } = environmentOf(stamp);
  const environment = await ifThere(async () => (await arm.apps()).managedEnvironments.get(group, name));
  if (environment === undefined)
    return failed(`there is no environment ${name} in ${group}`, "Correct AZURE_CONTAINER_ENV_ID, or make it.");
  if (environment.provisioningState === "Succeeded") return ok(`${name} in ${environment.location ?? group}`);
  return failed(`${name} is ${environment.provisioningState ?? "in no known state"}`, "See it in the portal.");
}

async function checkShare({ resourceGroup, storageAccount }: Stamp, arm: ArmClients): Promise<CheckResult> {
  const { storageAccounts, fileShares } = await arm.storage();
  const account = await ifThere(() => storageAccounts.getProperties(resourceGroup, storageAccount));
  if (account === undefined)
    return failed(`there is no storage account ${storageAccount}`, "Correct AZURE_STORAGE_ACCOUNT, or make it.");
  if (account.kind !== "FileStorage")
    return failed(
      `${storageAccount} is of the kind ${account.kind}`,
      "Shares that speak NFS need a FileStorage account.",
    );
  const share = await ifThere(() => fileShares.get(resourceGroup, storageAccount, STATE_SHARE));
  if (share === undefined) return ok(`${STATE_SHARE} is made with the first runtime`);
  if (share.enabledProtocols === "NFS") return ok(`${STATE_SHARE} on ${storageAccount}`);
  return failed(`${STATE_SHARE} does not speak NFS`, "Name another storage account: SQLite corrupts on SMB.");
}

function registriesOf(stamps: readonly Stamp[]): string[] {
  return stamps.flatMap(({ acrServer }) => acrServer?.toLowerCase() ?? []);
}

async function checkPullIdentity(
  { stamps, readImage }: AzureChecksContext,
  { resourceGroup, acrServer }: Stamp,
  arm: ArmClients,
): Promise<CheckResult> {
  const { registry } = parseImage(await readImage());
  const isPrivate = registriesOf(stamps).includes(registry) || registry.endsWith(".azurecr.io");
  if (isPrivate && registry !== acrServer?.toLowerCase())
    return failed(
      `the image lies on ${registry}, and runtimes here log in to ${acrServer ?? "no registry"}: it could not be pulled`,
      "Name the same registry for all stamps: AZURE_ACR_SERVER, and acrServer in the file of OPENCLAW_STAMPS_FILE.",
    );
  if (acrServer === undefined) return ok("none is needed for a public image");
  const { userAssignedIdentities } = await arm.identities();
  const identity = await ifThere(() => userAssignedIdentities.get(resourceGroup, PULL_IDENTITY));
  if (identity !== undefined) return ok(PULL_IDENTITY);
  const remedy = `Make it, and give it the role AcrPull on ${acrServer}.`;
  return failed(`there is no identity ${PULL_IDENTITY} in ${resourceGroup}: no image could be pulled`, remedy);
}

async function checkCores(stamp: Stamp, arm: ArmClients): Promise<CheckResult> {
  const { coresQuota } = stamp;
  const { group, name: environment } = environmentOf(stamp);
  const { managedEnvironmentUsages } = await arm.apps();
  let most: { name: string; used: number; limit: number } | undefined;
  for await (const { name, currentValue, limit } of managedEnvironmentUsages.list(group, environment)) {
    const usage = { name: name.value ?? "", used: currentValue, limit: coresQuota ?? limit };
    if (/core/i.test(usage.name) && (most === undefined || usage.used / usage.limit > most.used / most.limit))
      most = usage;
  }
  if (most === undefined)
    return warning("Azure tells no number of cores", "See the environment's quota in the portal.");
  return roomLeft(most.used, most.limit, "cores", "Ask Azure for more cores, or add a stamp.");
}

async function checkRoom({ stamps, countRuntimes }: AzureChecksContext, stamp: Stamp): Promise<CheckResult> {
  const what = `runtimes (${ROLES_PER_RUNTIME} role assignments each)`;
  return roomLeft(
    await countRuntimes(stamp),
    roomOf(stamp, stamps),
    what,
    "Add a stamp to the file of OPENCLAW_STAMPS_FILE.",
  );
}

function roomLeft(used: number, limit: number, what: string, remedy: string): CheckResult {
  const words = `${used} of ${limit} ${what}`;
  if (used >= limit) return failed(words, remedy);
  return limit - used < limit * TIGHT ? warning(words, remedy) : ok(words);
}
