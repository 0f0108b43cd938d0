import type { TestContext } from "node:test";
import { ContainerAppsAPIClient } from "@azure/arm-appcontainers";
import { AuthorizationManagementClient } from "@azure/arm-authorization";
import { ManagedServiceIdentityClient } from "@azure/arm-msi";
import { StorageManagementClient } from "@azure/arm-storage";
import type { Stamp } from "../../../../platform/config.ts";
import type { StampId } from "../../../../platform/ids.ts";
import { type ArmServer, startArm } from "../arm-server.ts";
import { trustLoopback } from "../certificate.ts";
import { type IdentityServer, startIdentityServer } from "../identity-server.ts";
import { type KeyVaultServer, startKeyVault } from "../key-vault.ts";

/** A stamp of the loopback Azure; `number` tells several apart. */
export function loopbackStamp(number: number, vaultUrl: string): Stamp {
  const subscriptionId = `00000000-0000-4000-8000-00000000000${number}`;
  const resourceGroup = `openclaw-${number}`;
  return {
    id: (number === 1 ? "default" : `stamp-${number}`) as StampId,
    subscriptionId,
    resourceGroup,
    location: number === 1 ? "westeurope" : "northeurope",
    environmentId: `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.App/managedEnvironments/openclaw-env`,
    acrServer: `openclaw${number}.azurecr.io`,
    vaultName: `openclaw-vault-${number}`,
    vaultUrl,
    storageAccount: `openclawstate${number}`,
    coresQuota: undefined,
  };
}

export type LoopbackAzure = {
  arm: ArmServer;
  identity: IdentityServer;
  vaults: KeyVaultServer[];
  stamps: Stamp[];
};

/** Everything of Azure on loopback, closed when the test ends. */
export async function startLoopbackAzure(
  t: TestContext,
  { stampCount = 1, pageSize }: { stampCount?: number; pageSize?: number } = {},
): Promise<LoopbackAzure> {
  trustLoopback();
  const identity = await startIdentityServer();
  t.after(() => identity.close());
  const vaults = await Promise.all(Array.from({ length: stampCount }, () => startKeyVault(identity)));
  t.after(() => Promise.all(vaults.map((vault) => vault.close())));
  const stamps = vaults.map(({ url }, index) => loopbackStamp(index + 1, url));
  const arm = await startArm({ identity, vaults, stamps, ...(pageSize === undefined ? {} : { pageSize }) });
  t.after(() => arm.close());
  return { arm, identity, vaults, stamps };
}

/** The real clients, which wait for nothing and try nothing again. */
export function armClients({ arm, identity, stamps }: LoopbackAzure, stamp: Stamp | undefined = stamps[0]) {
  if (stamp === undefined) throw new Error("There is no stamp");
  const credential = {
    getToken: async () => ({
      token: identity.issue("the-control-plane", "https://management.azure.com"),
      expiresOnTimestamp: Number.MAX_SAFE_INTEGER,
    }),
  };
  const options = { endpoint: arm.url, retryOptions: { maxRetries: 0 } };
  return {
    containers: new ContainerAppsAPIClient(credential, stamp.subscriptionId, { ...options, apiVersion: "2025-07-01" }),
    identities: new ManagedServiceIdentityClient(credential, stamp.subscriptionId, options),
    roles: new AuthorizationManagementClient(credential, stamp.subscriptionId, options),
    storage: new StorageManagementClient(credential, stamp.subscriptionId, { ...options, apiVersion: "2025-08-01" }),
  };
}
