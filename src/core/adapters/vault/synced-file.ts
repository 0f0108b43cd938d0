import { open, readFile } from "node:fs/promises";

/** A new file that is on disk when this is done. @param write puts its content in. */
export async function writeSynced(file: string, write: () => Promise<Buffer>): Promise<void> {
  const handle = await open(file, "wx", 0o600);
  try {
    await handle.writeFile(await write());
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function readIfThere(file: string): Promise<Buffer | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}
