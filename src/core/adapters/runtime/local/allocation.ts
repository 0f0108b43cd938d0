import path from "node:path";
import type { TenantId } from "../../../platform/ids.ts";
import type { RuntimeSpec } from "../runtime-driver.ts";
import { withFileLock } from "./file-lock.ts";
import type { Owner } from "./files.ts";
import { freeUid, isolation, ownerOf, stateUid } from "./isolation.ts";
import { freePort } from "./ports.ts";
import {
  listTenants,
  makeFolder,
  readRecord,
  tenantPaths,
  writeRecord,
  type RuntimeRecord,
  type TenantPaths,
} from "./tenant-folder.ts";

export function lockFile(root: string, name: string): string {
  return path.join(root, ".locks", `${name}.lock`);
}

/**
 * Gives a new runtime its ports and its user; they are reserved by its record being written. State kept from an earlier runtime goes
 * on under the user that it belongs to. Called inside the tenant's lock.
 */
export function createRecord(root: string, spec: RuntimeSpec): Promise<RuntimeRecord> {
  return withFileLock(lockFile(root, "allocation"), async () => {
    const records = await listRecords(root);
    const ports = portsOf(records);
    const gatewayPort = await freePort(ports);
    const webhookPort = await freePort(ports.add(gatewayPort));
    const paths = tenantPaths(root, spec.tenantId);
    const uid = await uidFor(root, paths);
    const record: RuntimeRecord = { spec, gatewayPort, webhookPort, uid, desired: "awake", failure: null };
    await makeFolder(paths, uid === null ? undefined : { uid, gid: uid });
    await writeRecord(paths, record);
    return record;
  });
}

/**
 * Has `put` bring a state into place as belonging to the user of the tenant's runtime, also of one that is yet to come: it is this
 * user's from then on. Called inside the tenant's lock.
 */
export function withStateOwner(
  root: string,
  tenantId: TenantId,
  put: (owner: Owner | undefined) => Promise<void>,
): Promise<void> {
  return withFileLock(lockFile(root, "allocation"), async () => {
    const paths = tenantPaths(root, tenantId);
    const record = await readRecord(paths);
    await put(ownerOf({ uid: record === undefined ? await uidFor(root, paths) : record.uid }));
  });
}

/** Called inside the lock of allocations; null: the same user as ours. */
async function uidFor(root: string, paths: TenantPaths): Promise<number | null> {
  if (isolation() === "shared") return null;
  return (await stateUid(paths)) ?? freeUid(await takenUids(root));
}

/** Gives a runtime other ports. Called inside the tenant's lock. */
export function moveToFreePorts(root: string, record: RuntimeRecord): Promise<RuntimeRecord> {
  return withFileLock(lockFile(root, "allocation"), async () => {
    const ports = portsOf(await listRecords(root));
    const gatewayPort = await freePort(ports);
    const moved = { ...record, gatewayPort, webhookPort: await freePort(ports.add(gatewayPort)) };
    await writeRecord(tenantPaths(root, record.spec.tenantId), moved);
    return moved;
  });
}

async function listRecords(root: string): Promise<RuntimeRecord[]> {
  const records = await Promise.all(
    (await listTenants(root)).map((tenantId) => readRecord(tenantPaths(root, tenantId))),
  );
  return records.filter((record) => record !== undefined);
}

/** Those of removed tenants too, whose state must not come to belong to somebody else. */
async function takenUids(root: string): Promise<Set<number>> {
  const uids = [
    ...(await listRecords(root)).map(({ uid }) => uid ?? undefined),
    ...(await Promise.all((await listTenants(root)).map((tenantId) => stateUid(tenantPaths(root, tenantId))))),
  ];
  return new Set(uids.filter((uid) => uid !== undefined));
}

function portsOf(records: readonly RuntimeRecord[]): Set<number> {
  return new Set(records.flatMap((record) => [record.gatewayPort, record.webhookPort]));
}
