import { constants } from "node:fs";
import { chmod, type FileHandle, lchown, mkdir, open, statfs, symlink, utimes } from "node:fs/promises";
import path from "node:path";
import { ConflictError } from "../../../platform/errors.ts";
import { syncFolder } from "../../../platform/sync-folder.ts";
import type { ArchiveReader, FilledEntry } from "../state-archive.ts";
import type { StateEntry, StateManifest } from "../state-manifest.ts";
import type { Owner } from "./files.ts";

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
/** What the file system needs beside the bytes of the files. */
const ENTRY_BYTES = 4_096;

/**
 * Writes what an archive holds into `folder`, which it makes, and which belongs to us alone until it is handed over: nobody can put
 * anything in its way. Everything is on disk when `finish` returns; links come last, so that nothing is written through one.
 */
export function createStateWriter(folder: string): ArchiveReader & { finish(): Promise<void> } {
  const taken: StateEntry[] = [];
  const placeOf = (entry: StateEntry): string => path.join(folder, entry.path);

  async function take({ entry, content }: FilledEntry): Promise<void> {
    taken.push(entry);
    if (entry.kind === "folder") await mkdir(placeOf(entry), { mode: 0o700 });
    if (entry.kind !== "file") return;
    const handle = await open(placeOf(entry), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      await fill(handle, { entry, content });
    } finally {
      await handle.close();
    }
  }

  async function fill(
    handle: FileHandle,
    { entry, content }: { entry: Extract<StateEntry, { kind: "file" }>; content: FilledEntry["content"] },
  ): Promise<void> {
    for await (const chunk of content) await handle.writeFile(chunk);
    await handle.chmod(entry.mode);
    await handle.utimes(entry.modifiedMs / 1_000, entry.modifiedMs / 1_000);
    await handle.sync();
  }

  return {
    async begin(manifest) {
      await requireSpace(path.dirname(folder), manifest);
      await mkdir(folder, { mode: 0o700 });
    },
    take,
    async finish() {
      for (const entry of taken) if (entry.kind === "link") await symlink(entry.target, placeOf(entry));
      // From the innermost outwards: a folder may not let us in any more, and what changes in it changes its time.
      for (const entry of taken.toReversed()) {
        if (entry.kind !== "folder") continue;
        await syncFolder(placeOf(entry));
        await utimes(placeOf(entry), entry.modifiedMs / 1_000, entry.modifiedMs / 1_000);
        await chmod(placeOf(entry), entry.mode);
      }
      await syncFolder(folder);
    },
  };
}

/** Gives all of it to `owner`, the folder itself last: from then on it is not ours to walk through. */
export async function handOver(folder: string, entries: readonly StateEntry[], owner: Owner): Promise<void> {
  for (const entry of entries) await lchown(path.join(folder, entry.path), owner.uid, owner.gid);
  await lchown(folder, owner.uid, owner.gid);
}

async function requireSpace(folder: string, { bytes, entries }: StateManifest): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const needed = bytes + entries.length * ENTRY_BYTES;
  if (needed <= bavail * bsize) return;
  throw new ConflictError(
    "no_space",
    `The archive holds ${needed} bytes, and ${folder} has room for ${bavail * bsize}. Nothing was changed: make room and try again.`,
  );
}
