import { chmod, chown, mkdir, readdir, rm, rmdir } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { ConflictError } from "../../../platform/errors.ts";
import { parseTenantId, type StampId, type TenantId } from "../../../platform/ids.ts";
import type { RuntimeSpec } from "../runtime-driver.ts";
import { hasCode, readIfThere, writeDurably, type Owner } from "./files.ts";
import { removeTree } from "./remove-tree.ts";
import { settleState } from "./state-swap.ts";

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
  // Records from before there were stamps have none.
  stampId: z
    .string()
    .default("default")
    .transform((text) => text as StampId),
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

/** Tenants that have a folder, also one without a record: it holds kept state, or what a crash left. */
export async function listTenants(root: string): Promise<TenantId[]> {
  const names = await readdir(root);
  return names.map(parseTenantId).filter((tenantId) => tenantId !== undefined);
}

export async function makeFolder(paths: TenantPaths, owner: Owner | undefined): Promise<void> {
  await mkdir(paths.folder, { recursive: true, mode: 0o700 });
  await mkdir(paths.logs, { recursive: true, mode: 0o700 });
  // An empty state must not take the place of one that is on its way.
  await settleState(paths);
  for (const own of [paths.home, paths.state, paths.tmp, paths.cache]) {
    await mkdir(own, { recursive: true, mode: 0o700 });
    if (owner !== undefined) await chown(own, owner.uid, owner.gid);
  }
  if (owner === undefined) return;
  // The runtime may pass through to its own folders and read its configuration, and see nothing else.
  await chown(paths.folder, 0, owner.gid);
  await chmod(paths.folder, 0o710);
}

/**
 * Removes all but the state; the record goes last, so that a removal that was cut off is seen and done again. Without any state, nothing
 * is left. @throws ConflictError when something else is still there.
 */
export async function removeAllButState(paths: TenantPaths): Promise<void> {
  await settleState(paths);
  const others = (await namesIn(paths.folder)).map((name) => path.join(paths.folder, name));
  for (const other of others) if (other !== paths.state && other !== paths.record) await removeTree(other);
  await rm(paths.record, { force: true });
  if (await removeIfEmpty(paths.state)) await removeIfEmpty(paths.folder);
  const left = (await namesIn(paths.folder)).filter((name) => path.join(paths.folder, name) !== paths.state);
  if (left.length === 0) return;
  throw new ConflictError(
    "runtime_not_removed",
    `Still in ${paths.folder} after removing the runtime: ${left.join(", ")}; remove it again.`,
  );
}

/** Removes everything. @throws ConflictError when something is still there. */
export async function removeEverything(paths: TenantPaths): Promise<void> {
  await removeTree(paths.folder);
  const left = await namesIn(paths.folder);
  if (left.length === 0) return;
  throw new ConflictError(
    "state_not_erased",
    `Still in ${paths.folder} after erasing it: ${left.join(", ")}; erase it again.`,
  );
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  }
}

/** Whether it is gone. */
async function removeIfEmpty(folder: string): Promise<boolean> {
  try {
    await rmdir(folder);
    return true;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return true;
    if (hasCode(error, "ENOTEMPTY", "EEXIST")) return false;
    throw error;
  }
}
