import { createHash } from "node:crypto";
import type { FilledEntry } from "../state-archive.ts";
import { type LeftOut, MAX_ENTRIES, type StateEntry, tooLarge } from "../state-manifest.ts";
import { changed, type Found, type OpenFile, readState } from "./state-reader.ts";

const CHUNK_BYTES = 256 * 1_024;

type Fit = Exclude<Found, { kind: "unfit" }>;

/**
 * What a state folder holds, files with their hashes, and what of it no archive can hold.
 * @throws UsageError when it is more than `maxBytes`, or more than an archive may hold.
 */
export async function listState(
  folder: string,
  { maxBytes, signal }: { maxBytes: number; signal: AbortSignal | undefined },
): Promise<{ entries: StateEntry[]; leftOut: LeftOut[] }> {
  const entries: StateEntry[] = [];
  const leftOut: LeftOut[] = [];
  let bytes = 0;
  for await (const found of readState(folder)) {
    signal?.throwIfAborted();
    if (entries.length + leftOut.length === MAX_ENTRIES) throw tooLarge(`it has more than ${MAX_ENTRIES} files`);
    if (found.kind === "unfit") leftOut.push({ path: found.path, reason: found.reason, isLoss: found.isLoss });
    else {
      bytes += found.kind === "file" ? found.size : 0;
      if (bytes > maxBytes)
        throw tooLarge(
          `with ${JSON.stringify(found.path)}, it is larger than ${maxBytes} bytes; allow more with --max-size`,
        );
      entries.push(await toEntry(found, signal));
    }
  }
  return { entries, leftOut };
}

/** What is in those entries, as it was when they were listed. @throws ConflictError when it is not the same any more. */
export async function* readContents(
  folder: string,
  { entries, signal }: { entries: readonly StateEntry[]; signal: AbortSignal | undefined },
): AsyncGenerator<FilledEntry, void, undefined> {
  let next = 0;
  for await (const found of readState(folder)) {
    if (found.kind === "unfit") continue;
    const entry = entries[next++];
    if (entry === undefined || !isSame(found, entry)) throw changed(found.path);
    yield { entry, content: found.kind === "file" ? unchanged(found, entry, signal) : nothing() };
  }
  const missing = entries[next];
  if (missing !== undefined) throw changed(missing.path);
}

async function toEntry(found: Fit, signal: AbortSignal | undefined): Promise<StateEntry> {
  if (found.kind !== "file") return found;
  const hash = createHash("sha256");
  for await (const chunk of contentOf(found, signal)) hash.update(chunk);
  const { handle: _, ...file } = found;
  return { ...file, sha256: hash.digest("hex") };
}

function isSame(found: Fit, entry: StateEntry): boolean {
  if (found.path !== entry.path) return false;
  if (found.kind === "file") return entry.kind === "file" && found.size === entry.size;
  if (found.kind === "link") return entry.kind === "link" && found.target === entry.target;
  return entry.kind === "folder";
}

async function* unchanged(file: OpenFile, entry: StateEntry, signal: AbortSignal | undefined): BytesGenerator {
  const hash = createHash("sha256");
  for await (const chunk of contentOf(file, signal)) {
    hash.update(chunk);
    yield chunk;
  }
  if (entry.kind !== "file" || hash.digest("hex") !== entry.sha256) throw changed(file.path);
}

/** As much as there was when it was opened. @throws ConflictError when there is less or more by now. */
async function* contentOf({ handle, path, size }: OpenFile, signal: AbortSignal | undefined): BytesGenerator {
  for (let position = 0; position < size;) {
    signal?.throwIfAborted();
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - position));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, position);
    if (bytesRead === 0) throw changed(path);
    yield chunk.subarray(0, bytesRead);
    position += bytesRead;
  }
  if ((await handle.stat()).size !== size) throw changed(path);
}

type BytesGenerator = AsyncGenerator<Uint8Array, void, undefined>;

async function* nothing(): BytesGenerator {}
