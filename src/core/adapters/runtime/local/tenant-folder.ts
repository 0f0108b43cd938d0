import { existsSync } from "node:fs";
import { chmod, chown, mkdir, readdir, rename, rm } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { ConflictError } from "../../../platform/errors.ts";
import { parseTenantId, type TenantId } from "../../../platform/ids.ts";
import type { RuntimeSpec } from "../runtime-driver.ts";
import { readIfThere, writeDurably, type Owner } from "./files.ts";

/**
 * Where things lie. The folder and its records belong to us and the runtime can't write them: what we do as root must not follow from
 * what a tenant wrote. `home/`, `state/`, `tmp/` and `cache/` are the runtime's own.
 */
export type TenantPaths = ReturnType<typeof tenantPaths>;

export function tenantPaths(root: string, tenantId: TenantId) {
  const folder = path.join(root, tenantId);
  return {
    folder,
    record: path.join(folder, "runtime.json"),
    process: path.join(folder, "process.json"),
    config: path.join(folder, "openclaw.json"),
    candidate: path.join(folder, "openclaw.json.candidate"),
    lastGood: path.join(folder, "openclaw.json.last-good"),
    logs: path.join(folder, "logs"),
    log: path.join(folder, "logs", "runtime.log"),
    home: path.join(folder, "home"),
    state: path.join(folder, "state"),
    tmp: path.join(folder, "tmp"),
    cache: path.join(folder, "cache"),
  };
}

const specSchema = z.object({
  tenantId: z
    .string()
    .transform((text, context) => parseTenantId(text) ?? (context.addIssue("not a tenant id"), z.NEVER)),
  slug: z.string(),
  image: z.string(),
  config: z.record(z.string(), z.unknown()),
  env: z.record(z.string(), z.string()),
  secrets: z.record(z.string(), z.string()),
  cpu: z.number(),
  memoryMiB: z.number(),
  hash: z.string(),
}) satisfies z.ZodType<RuntimeSpec>;

const recordSchema = z.object({
  spec: specSchema,
  gatewayPort: z.number(),
  webhookPort: z.number(),
  /** The runtime's user and group; null: the same user as ours. */
  uid: z.number().nullable(),
  desired: z.enum(["awake", "asleep"]),
  /** Why it won't be started again until the spec changes. */
  failure: z.string().nullable(),
});
/** What a runtime should be: the local driver's source of truth. */
export type RuntimeRecord = z.infer<typeof recordSchema>;

const processSchema = z.object({
  pid: z.number(),
  startedAt: z.string(),
  specHash: z.string(),
  image: z.string(),
  /** Starts in a row that did not lead to a minute of health. */
  failures: z.number(),
  lastExit: z.string().nullable(),
});
/** The process last started for a runtime; it may be gone. */
export type ProcessRecord = z.infer<typeof processSchema>;

export async function readRecord(paths: TenantPaths): Promise<RuntimeRecord | undefined> {
  const text = await readIfThere(paths.record);
  return text === undefined ? undefined : recordSchema.parse(JSON.parse(text));
}

export async function writeRecord(paths: TenantPaths, record: RuntimeRecord): Promise<void> {
  await writeDurably(paths.record, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
}

export async function readProcess(paths: TenantPaths): Promise<ProcessRecord | undefined> {
  const text = await readIfThere(paths.process);
  return text === undefined ? undefined : processSchema.parse(JSON.parse(text));
}

export async function writeProcess(paths: TenantPaths, record: ProcessRecord): Promise<void> {
  await writeDurably(paths.process, `${JSON.stringify(record)}\n`, { mode: 0o600 });
}

/** Tenants that have a folder, also one without a record, as a crash may leave. */
export async function listTenants(root: string): Promise<TenantId[]> {
  const names = await readdir(root);
  return names.map(parseTenantId).filter((tenantId) => tenantId !== undefined);
}

export async function makeFolder(paths: TenantPaths, owner: Owner | undefined): Promise<void> {
  await mkdir(paths.folder, { recursive: true, mode: 0o700 });
  await mkdir(paths.logs, { recursive: true, mode: 0o700 });
  for (const own of [paths.home, paths.state, paths.tmp, paths.cache]) {
    await mkdir(own, { recursive: true, mode: 0o700 });
    if (owner !== undefined) await chown(own, owner.uid, owner.gid);
  }
  if (owner === undefined) return;
  // The runtime may pass through to its own folders and read its configuration, and see nothing else.
  await chown(paths.folder, 0, owner.gid);
  await chmod(paths.folder, 0o710);
}

/** Removes the folder: moved out of sight first, so that a crash leaves no half of a runtime. @throws ConflictError when it is still there. */
export async function removeFolder(root: string, tenantId: TenantId): Promise<void> {
  const { folder } = tenantPaths(root, tenantId);
  const trash = path.join(root, `.removing-${tenantId}`);
  await rm(trash, { recursive: true, force: true });
  if (existsSync(folder)) {
    await chmod(folder, 0o700);
    await rename(folder, trash);
    await rm(trash, { recursive: true, force: true });
  }
  if (existsSync(folder) || existsSync(trash)) {
    throw new ConflictError(
      "runtime_not_removed",
      `Files of tenant ${tenantId} are still in ${root}; remove it again.`,
    );
  }
}
