import { lstat, mkdir, stat } from "node:fs/promises";
import type { Bytes } from "../../../platform/byte-blocks.ts";
import { ConfigError, ConflictError, NotFoundError } from "../../../platform/errors.ts";
import type { TenantId } from "../../../platform/ids.ts";
import type { RuntimeBackups, StateExport } from "../runtime-backups.ts";
import { readArchive, writeArchive } from "../state-archive.ts";
import { manifestOf, type StateManifest } from "../state-manifest.ts";
import { lockFile, withStateOwner } from "./allocation.ts";
import { withFileLock } from "./file-lock.ts";
import { hasCode } from "./files.ts";
import { prepareRoot } from "./isolation.ts";
import { listState, readContents } from "./state-listing.ts";
import { putDraftInPlace, settleState, swapPaths } from "./state-swap.ts";
import { createStateWriter, handOver } from "./state-writer.ts";
import { readProcess, readRecord, type RuntimeRecord, tenantPaths, type TenantPaths } from "./tenant-folder.ts";

/**
 * Copies of the state folders below `root`, each taken and put back under the tenant's lock. It starts and supervises nothing, so that a
 * command may use it beside the daemon's driver.
 */
export function createLocalBackups({ root }: { root: string }): RuntimeBackups {
  async function whileStopped<T>(
    tenantId: TenantId,
    work: (paths: TenantPaths, record: RuntimeRecord | undefined) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    await requireOwn(root);
    await prepareRoot(root);
    const paths = tenantPaths(root, tenantId);
    return withFileLock(
      lockFile(root, tenantId),
      async () => work(paths, await requireStopped(paths, tenantId)),
      signal,
    );
  }

  return {
    exportState: (tenantId, wanted) =>
      whileStopped(tenantId, (paths, record) => exportState(paths, record, { tenantId, ...wanted }), wanted.signal),
    importState: (tenantId, archive, signal) =>
      whileStopped(tenantId, (paths) => importState(root, tenantId, paths, interruptible(archive, signal)), signal),
  };
}

async function exportState(
  paths: TenantPaths,
  record: RuntimeRecord | undefined,
  { tenantId, slug, createdAt, maxBytes, write, signal }: StateExport & { tenantId: TenantId },
): Promise<StateManifest> {
  await settleState(paths);
  if (!(await isFolder(paths.state)))
    throw new NotFoundError("state_absent", `Nothing is kept for ${slug} on this machine; looked for ${paths.state}`);
  const listing = await listState(paths.state, { maxBytes, signal });
  const spec = record === undefined ? null : { image: record.spec.image, hash: record.spec.hash };
  const manifest = manifestOf({ tenantId, slug, createdAt: createdAt.toISOString(), driver: "local", spec }, listing);
  await write(writeArchive(manifest, readContents(paths.state, { entries: manifest.entries, signal })));
  return manifest;
}

async function importState(
  root: string,
  tenantId: TenantId,
  paths: TenantPaths,
  archive: Bytes,
): Promise<StateManifest> {
  await mkdir(paths.folder, { recursive: true, mode: 0o700 });
  await settleState(paths);
  const { draft } = swapPaths(paths);
  try {
    const writer = createStateWriter(draft);
    const manifest = await readArchive(archive, writer);
    await writer.finish();
    await withStateOwner(root, tenantId, async (owner) => {
      if (owner !== undefined) await handOver(draft, manifest.entries, owner);
      await putDraftInPlace(paths);
    });
    return manifest;
  } finally {
    // What was replaced, or what is left of an archive that could not be used.
    await settleState(paths);
  }
}

/** @throws ConfigError when another user's daemon keeps the runtimes: what we make there would be closed to it. */
async function requireOwn(root: string): Promise<void> {
  try {
    const { uid } = await stat(root);
    if (uid === process.getuid?.()) return;
    throw new ConfigError("runtimes_foreign", [
      `${root} belongs to the user with the id ${uid}; run this as that user, as the daemon does.`,
    ]);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return;
    throw error;
  }
}

/** A process on record, though it may be gone, means that its end, and that of its children, was not seen to. */
async function requireStopped(paths: TenantPaths, tenantId: TenantId): Promise<RuntimeRecord | undefined> {
  const record = await readRecord(paths);
  const isStopped = record?.desired !== "awake" && (await readProcess(paths)) === undefined;
  if (isStopped) return record;
  throw new ConflictError(
    "runtime_awake",
    `The runtime of tenant ${tenantId} is not asleep; put it to sleep first: openclaw tenant sleep ${tenantId}`,
  );
}

async function* interruptible(archive: Bytes, signal: AbortSignal | undefined): Bytes & AsyncGenerator<Uint8Array> {
  for await (const chunk of archive) {
    signal?.throwIfAborted();
    yield chunk;
  }
}

async function isFolder(file: string): Promise<boolean> {
  try {
    return (await lstat(file)).isDirectory();
  } catch (error) {
    if (hasCode(error, "ENOENT")) return false;
    throw error;
  }
}
