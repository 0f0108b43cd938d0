import { open } from "node:fs/promises";

/** Puts on disk which names a folder holds, as after a rename in it. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
