import type { Bytes } from "../../platform/byte-blocks.ts";
import type { TenantId } from "../../platform/ids.ts";
import type { StateManifest } from "./state-manifest.ts";

export type StateExport = {
  /** For the manifest. */
  slug: string;
  createdAt: Date;
  /** More than that is refused, holes in files counted as what they read as. */
  maxBytes: number;
  /** Takes the archive to where it belongs; called once, and only when nothing stands against it any more. */
  write(archive: Bytes): Promise<void>;
  signal?: AbortSignal;
};

/**
 * Copies of what runtimes keep, as archives that `readArchive` reads: for a driver that gets at the files of a sleeping runtime, or of a
 * snapshot. Both operations keep the runtime from being started meanwhile, and fail with the ConflictError `runtime_awake`, before
 * anything is done, while it may be writing: put it to sleep and ask again.
 */
export type RuntimeBackups = {
  /**
   * @throws NotFoundError when nothing is kept for the tenant, ConflictError when somebody else changes it meanwhile, UsageError when it
   * is more than allowed.
   */
  exportState(tenantId: TenantId, wanted: StateExport): Promise<StateManifest>;
  /**
   * Replaces the state by that of an archive, all of which is checked before; whenever it is cut off, either the old or the new state is
   * there, whole. A tenant that has no runtime yet finds it at its first start.
   * @throws UsageError when the archive can't be used.
   */
  importState(tenantId: TenantId, archive: Bytes, signal?: AbortSignal): Promise<StateManifest>;
};
