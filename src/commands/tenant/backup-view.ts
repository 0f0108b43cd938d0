import type { StateManifest } from "../../core/adapters/runtime/state-manifest.ts";
import type { Tenant } from "../../core/tenants/tenants.ts";
import { say } from "../output.ts";
import { formatTime } from "./view.ts";

const SHOWN = 10;

/** The documented JSON form of what a backup holds, without the list of its files. */
export function manifestDocument(manifest: StateManifest) {
  const { tenantId, slug, createdAt, driver, spec, files, bytes, leftOut } = manifest;
  return { tenantId, slug, createdAt, driver, spec, files, bytes, leftOut };
}

/** Such as `bob's backup of 2026-03-01T12:00:00Z (12 files, 3.4 MB)`. */
export function describeBackup({ slug, createdAt, files, bytes }: StateManifest): string {
  return `${slug}'s backup of ${formatTime(new Date(createdAt))} (${files} files, ${formatBytes(bytes)})`;
}

/** Names what lies there and is not in the backup. */
export function sayLeftOut({ leftOut }: StateManifest): void {
  for (const { path, reason } of leftOut.slice(0, SHOWN)) say(`Left out: ${path}: ${reason}.`);
  if (leftOut.length > SHOWN) say(`Left out, too: ${leftOut.length - SHOWN} more; --json lists them all.`);
}

/** Says what a command waits for. */
export function sayWait({ slug, status, hibernatedAt }: Tenant): void {
  const isAwake = status === "active" && hibernatedAt === null;
  say(
    isAwake
      ? `${slug} goes to sleep once it is quiet, for a minute or more, and is woken afterwards.`
      : `Waiting until the runtime of ${slug} is asleep.`,
  );
}

/** Such as `its runtime is waking`: when the assistant works with what was put into it. */
export function describeAfterImport(
  { status, hibernatedAt }: Tenant,
  { wasAwake, waited }: { wasAwake: boolean; waited: boolean },
): string {
  if (wasAwake) return `its runtime is ${waited ? "awake again" : "waking"}`;
  return status === "active" && hibernatedAt !== null
    ? "the next message wakes it"
    : `it is ${status}, and finds it when it runs`;
}

export function formatBytes(bytes: number): string {
  if (bytes < 1_000) return `${bytes} bytes`;
  return bytes < 1_000_000 ? `${(bytes / 1_000).toFixed(1)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
