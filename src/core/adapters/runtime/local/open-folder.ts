import { constants } from "node:fs";
import { type FileHandle, open, opendir } from "node:fs/promises";

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;

/** A folder that somebody else may be exchanging for another, held as it was opened; `real` is where it lay then. */
export type OpenFolder = { handle: FileHandle; real: string };

/** @throws when a link, or anything but a folder, lies there. */
export async function openFolder(way: string | Buffer, real: string): Promise<OpenFolder> {
  return { handle: await open(way, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), real };
}

/** The way to what lies in it: on Linux by way of the folder itself, whatever lies at its place by now; elsewhere by that place. */
export function wayInto({ handle, real }: OpenFolder, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${wayTo({ handle, real })}/`), name]);
}

function wayTo({ handle, real }: OpenFolder): string {
  return process.platform === "linux" ? `/proc/self/fd/${handle.fd}` : real;
}

/** The names in it as bytes, which need not be text. */
export async function* namesIn(folder: OpenFolder): AsyncGenerator<Buffer, void, undefined> {
  // Node gives them as they are when asked for "buffer", which its types don't know.
  const entries = await opendir(wayTo(folder), { encoding: "buffer" as BufferEncoding });
  for await (const { name } of entries) yield name as unknown as Buffer;
}
