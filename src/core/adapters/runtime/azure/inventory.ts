import type { ContainerApp } from "@azure/arm-appcontainers";
import type { TenantId } from "../../../platform/ids.ts";
import { absentRuntime, type ObservedRuntime } from "../runtime-driver.ts";
import { isOurs, tenantOf } from "./names.ts";
import type { Errand, StampClient } from "./steps.ts";

/** Every container app of the stamp that bears our mark, by tenant: a call a page. */
export async function listApps(
  client: StampClient,
  errand: Errand,
  installation: string,
): Promise<Map<TenantId, ContainerApp>> {
  const { stamp, arm } = client;
  const apps = new Map<TenantId, ContainerApp>();
  await client.look(errand, `The container apps of ${stamp.resourceGroup} could not be listed`, async () => {
    const { containerApps } = await arm.apps();
    for await (const app of containerApps.listByResourceGroup(stamp.resourceGroup)) {
      const tenantId = isOurs(app.tags, installation) ? tenantOf(app.tags) : undefined;
      if (tenantId !== undefined) apps.set(tenantId, app);
    }
  });
  return apps;
}

/** Tenants whose identity is there: what a removal that was cut off, or refused, leaves behind. */
export async function listIdentities(
  client: StampClient,
  errand: Errand,
  installation: string,
): Promise<Set<TenantId>> {
  const { stamp, arm } = client;
  const found = new Set<TenantId>();
  await client.look(errand, `The identities of ${stamp.resourceGroup} could not be listed`, async () => {
    const { userAssignedIdentities } = await arm.identities();
    for await (const { tags } of userAssignedIdentities.listByResourceGroup(stamp.resourceGroup)) {
      const tenantId = isOurs(tags, installation) ? tenantOf(tags) : undefined;
      if (tenantId !== undefined) found.add(tenantId);
    }
  });
  return found;
}

/** An identity without its app. */
export function leftBehind(tenantId: TenantId): ObservedRuntime {
  const reason = "its identity is left behind without a container app";
  return { ...absentRuntime(tenantId), state: "failed", reason, drift: ["container app"] };
}
