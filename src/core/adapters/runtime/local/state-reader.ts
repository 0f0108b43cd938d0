import { isUtf8 } from "node:buffer";
import { constants, type Stats } from "node:fs";
import { type FileHandle, lstat, open, readlink } from "node:fs/promises";
import { ConflictError } from "../../../platform/errors.ts";
import {
  LATEST_MS,
  type LeftOut,
  MAX_ENTRIES,
  pathProblem,
  type StateEntry,
  targetProblem,
  tooLarge,
} from "../state-manifest.ts";
import { hasCode } from "./files.ts";
import { namesIn, type OpenFolder, openFolder, wayInto } from "./open-folder.ts";

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
/** A pipe put in a file's place must not keep us waiting for somebody to write to it. */
const AS_FILE = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
const PERMISSIONS = 0o777;

type Folder = Extract<StateEntry, { kind: "folder" }>;
type Link = Extract<StateEntry, { kind: "link" }>;
/** A file that is open for as long as whoever reads these looks at it. */
export type OpenFile = Omit<Extract<StateEntry, { kind: "file" }>, "sha256"> & { handle: FileHandle };
export type Found = Folder | Link | OpenFile | ({ kind: "unfit" } & LeftOut);

/**
 * Everything in a state folder, a folder before what is in it, by name. Its owner wrote all of it, may still be at it, and is not to
 * have us, who may be root, read anything else: no link is followed, each folder is entered from the one above as it was opened, and what
 * belongs to somebody else under a second name is left alone.
 */
export async function* readState(folder: string): AsyncGenerator<Found, void, undefined> {
  const opened = await openFolder(folder, folder);
  try {
    const { uid } = await opened.handle.stat();
    yield* readFolder({ ...opened, path: "", owner: uid });
  } finally {
    await opened.handle.close();
  }
}

/** A folder of the state, its path within, and whose it all is. */
type Place = OpenFolder & { path: string; owner: number };

async function* readFolder(place: Place): AsyncGenerator<Found, void, undefined> {
  for (const name of await sortedNames(place)) {
    const path = place.path === "" ? name.toString() : `${place.path}/${name.toString()}`;
    const problem = isUtf8(name) ? pathProblem(path) : "its name is not UTF-8";
    if (problem === undefined) yield* readChild(place, wayInto(place, name), path);
    else yield { kind: "unfit", path, reason: problem, isLoss: true };
  }
}

async function sortedNames(place: Place): Promise<Buffer[]> {
  const names: Buffer[] = [];
  for await (const name of namesIn(place)) {
    if (names.length === MAX_ENTRIES) throw tooLarge(`there is too much in ${JSON.stringify(place.path)}`);
    names.push(name);
  }
  return names.sort(Buffer.compare);
}

async function* readChild(place: Place, way: Buffer, path: string): AsyncGenerator<Found, void, undefined> {
  try {
    const stats = await lstat(way);
    if (stats.isDirectory()) yield* readChildFolder(place, way, path);
    else if (stats.isFile()) yield* readFile(place, way, path);
    else if (stats.isSymbolicLink()) yield await readLink(way, path);
    else yield { kind: "unfit", path, reason: "it is a socket, a pipe or a device", isLoss: false };
  } catch (error) {
    if (hasCode(error, "EACCES", "EPERM")) yield { kind: "unfit", path, reason: "it may not be read", isLoss: true };
    else if (hasCode(error, "ENOENT", "ELOOP", "ENOTDIR", "ENXIO")) throw changed(path, error);
    else throw error;
  }
}

async function* readChildFolder(place: Place, way: Buffer, path: string): AsyncGenerator<Found, void, undefined> {
  const folder = await openFolder(way, `${place.real}/${nameOf(path)}`);
  try {
    yield { kind: "folder", path, ...describe(await folder.handle.stat()) };
    yield* readFolder({ ...folder, path, owner: place.owner });
  } finally {
    await folder.handle.close();
  }
}

async function* readFile({ owner }: Place, way: Buffer, path: string): AsyncGenerator<Found, void, undefined> {
  const handle = await open(way, AS_FILE);
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw changed(path);
    // A second name of a file is all that it takes to have root read what its giver can't.
    if (stats.uid !== owner && stats.nlink > 1)
      yield { kind: "unfit", path, reason: "it is a second name of somebody else's file", isLoss: true };
    else yield { kind: "file", path, ...describe(stats), size: stats.size, handle };
  } finally {
    await handle.close();
  }
}

async function readLink(way: Buffer, path: string): Promise<Found> {
  const bytes = await readlink(way, { encoding: "buffer" });
  const target = bytes.toString();
  const problem = isUtf8(bytes) ? targetProblem({ path, target }) : "where it leads is not UTF-8";
  return problem === undefined
    ? { kind: "link", path, target }
    : { kind: "unfit", path, reason: `the link ${JSON.stringify(target)}: ${problem}`, isLoss: false };
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function describe({ mode, mtimeMs }: Stats): { mode: number; modifiedMs: number } {
  return { mode: mode & PERMISSIONS, modifiedMs: Math.min(Math.max(mtimeMs, 0), LATEST_MS) };
}

export function changed(path: string, cause?: unknown): ConflictError {
  return new ConflictError(
    "state_changed",
    `${JSON.stringify(path)} changed while it was copied, though its runtime sleeps: somebody else writes there. Try again.`,
    { cause },
  );
}
