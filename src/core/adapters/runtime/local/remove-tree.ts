import { chmod, rmdir, unlink } from "node:fs/promises";
import { hasCode } from "./files.ts";
import { namesIn, openFolder, wayInto } from "./open-folder.ts";

const LOOKS = 3;

/**
 * Removes a file, or a folder with all that is in it; nothing there is fine. Whoever owns it may still be at it: what he puts in a
 * folder's place while we are in it, such as a link to elsewhere, is not gone through.
 */
export async function removeTree(file: string): Promise<void> {
  await removeAt(Buffer.from(file), file);
}

async function removeAt(way: Buffer, real: string): Promise<void> {
  if (await isRemoved(way)) return;
  // Root gets in anywhere; others open what they have closed to themselves.
  if (process.getuid?.() !== 0) await chmod(way, 0o700);
  for (let looks = 1; ; looks += 1) {
    await empty(way, real);
    try {
      return await rmdir(way);
    } catch (error) {
      // Not every file system tells all names to whoever removes while it lists.
      if (looks === LOOKS || !hasCode(error, "ENOTEMPTY", "EEXIST")) throw error;
    }
  }
}

async function empty(way: Buffer, real: string): Promise<void> {
  const folder = await openFolder(way, real);
  try {
    for await (const name of namesIn(folder)) await removeAt(wayInto(folder, name), `${real}/${name.toString()}`);
  } finally {
    await folder.handle.close();
  }
}

/** False for a folder. */
async function isRemoved(way: Buffer): Promise<boolean> {
  try {
    await unlink(way);
    return true;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return true;
    // What unlink says of a folder: the first on Linux, the second by POSIX.
    if (hasCode(error, "EISDIR", "EPERM")) return false;
    throw error;
  }
}
