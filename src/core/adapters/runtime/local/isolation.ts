import { chmod, lstat, mkdir, stat } from "node:fs/promises";
import path from "node:path";
import { makeDataDir } from "../../../platform/data-dir.ts";
import { ConfigError } from "../../../platform/errors.ts";
import { hasCode, type Owner } from "./files.ts";
import { swapPaths } from "./state-swap.ts";
import type { RuntimeRecord, TenantPaths } from "./tenant-folder.ts";

const FIRST_UID = 61_000;
/** "nobody" and the value that means "leave as it is" in 16 bits. */
const RESERVED_UIDS = new Set([65_534, 65_535]);
const OTHERS_MAY_ENTER = 0o001;
const OTHERS_MAY_READ = 0o004;

/** Whether runtimes on this machine are walled off from each other and from us by users of their own; only root can do that. */
export function isolation(): "uid-per-tenant" | "shared" {
  return process.getuid?.() === 0 ? "uid-per-tenant" : "shared";
}

/** The lowest user id that no tenant's folder belongs to. */
export function freeUid(taken: ReadonlySet<number>): number {
  let uid = FIRST_UID;
  while (taken.has(uid) || RESERVED_UIDS.has(uid)) uid += 1;
  return uid;
}

/** The user that a tenant's state belongs to, which outlives the runtime; undefined when there is none. */
export async function stateUid({ state }: Pick<TenantPaths, "state">): Promise<number | undefined> {
  const { next, previous } = swapPaths({ state });
  for (const folder of [state, next, previous]) {
    const uid = await uidOf(folder);
    if (uid !== undefined && uid >= FIRST_UID) return uid;
  }
  return undefined;
}

async function uidOf(folder: string): Promise<number | undefined> {
  try {
    return (await lstat(folder)).uid;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

export function ownerOf({ uid }: Pick<RuntimeRecord, "uid">): Owner | undefined {
  return uid === null ? undefined : { uid, gid: uid };
}

/**
 * Makes the folder of all runtimes. Under root their users must be able to pass through it and all above it.
 * @throws ConfigError naming the folder that bars them.
 */
export async function prepareRoot(root: string): Promise<void> {
  await makeDataDir(path.dirname(root));
  await mkdir(root, { recursive: true, mode: 0o700 });
  if (isolation() === "shared") return chmod(root, 0o700);
  await chmod(root, 0o711);
  const dataDir = path.dirname(root);
  const { mode, uid } = await stat(dataDir);
  // The data folder is ours, and what lies in it has modes of its own; folders above it are not ours to open.
  if (uid === 0) await chmod(dataDir, (mode & 0o7777) | OTHERS_MAY_ENTER);
  const barred = await barredFolder(root);
  if (barred === undefined) return;
  throw new ConfigError("data_dir_unreachable", [
    `Runtimes run under users of their own, which can't pass through ${barred}. Set OPENCLAW_DATA_DIR to a folder outside it, e.g. /var/lib/openclaw, or allow it with: chmod o+x ${barred}`,
  ]);
}

/** Whether any user may execute (`need: "execute"`) or read a file, path included. */
export async function isReachable(file: string, need: "execute" | "read"): Promise<boolean> {
  const { mode } = await stat(file);
  const wanted = need === "execute" ? OTHERS_MAY_READ | OTHERS_MAY_ENTER : OTHERS_MAY_READ;
  return (mode & wanted) === wanted && (await barredFolder(path.dirname(file))) === undefined;
}

/** The folder nearest to the root of the file system that others can't pass through. */
async function barredFolder(folder: string): Promise<string | undefined> {
  const parent = path.dirname(folder);
  const above = parent === folder ? undefined : await barredFolder(parent);
  if (above !== undefined) return above;
  return ((await stat(folder)).mode & OTHERS_MAY_ENTER) === 0 ? folder : undefined;
}
