import { randomBytes } from "node:crypto";
import { open, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { ConflictError } from "../../../platform/errors.ts";
import { syncFolder } from "../../../platform/sync-folder.ts";

export type Owner = { uid: number; gid: number };

/**
 * Replaces `file` by rename, synced, so that a reader or a crash sees the old or the new content, never half of one, and reads it
 * back before it counts as written (F41). A draft has its writer's own name and is never an existing file or link.
 */
export async function writeDurably(
  file: string,
  content: string,
  access: { mode: number; owner?: Owner },
): Promise<void> {
  const draft = `${file}.${randomBytes(6).toString("hex")}.tmp`;
  const handle = await open(draft, "wx", 0o600);
  try {
    await handle.writeFile(content);
    if (access.owner !== undefined) await handle.chown(access.owner.uid, access.owner.gid);
    await handle.chmod(access.mode);
    await handle.sync();
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  await rename(draft, file);
  await syncFolder(path.dirname(file));
  if ((await readFile(file, "utf8")) !== content) {
    throw new ConflictError(
      "file_not_applied",
      `${file} reads back differently from what was written; somebody else writes it.`,
    );
  }
}

export async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "string" && codes.includes(error.code);
}
