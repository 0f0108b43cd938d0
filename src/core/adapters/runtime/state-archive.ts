import { createHash } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { extract, pack, type Pack } from "tar-stream";
import type { Bytes } from "../../platform/byte-blocks.ts";
import { OpenClawError, UsageError } from "../../platform/errors.ts";
import { MAX_MANIFEST_BYTES, parseManifest, type StateEntry, type StateManifest, tooLarge } from "./state-manifest.ts";

/** A tar archive of a tenant's state: a manifest, then everything that it lists, in its order, below `state/`. */
const MANIFEST_NAME = "manifest.json";
const STATE_NAME = "state";

/** An entry with what is in it: the bytes of a file, else none. */
export type FilledEntry = { entry: StateEntry; content: Bytes };

/** `contents` has to give the manifest's entries in their order. @throws UsageError when there is more than an archive may hold. */
export async function* writeArchive(
  manifest: StateManifest,
  contents: AsyncIterable<FilledEntry>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const archive = pack();
  const filled = fill(archive, manifest, contents).catch((error: unknown) => {
    archive.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  });
  try {
    yield* archive as Bytes;
  } finally {
    archive.destroy();
    // Thrown by the loop above already, unless nobody wants to read on.
    await filled.catch(() => undefined);
  }
}

async function fill(archive: Pack, manifest: StateManifest, contents: AsyncIterable<FilledEntry>): Promise<void> {
  const text = Buffer.from(`${JSON.stringify(manifest)}\n`);
  if (text.length > MAX_MANIFEST_BYTES) throw tooLarge("its names are too many, or too long");
  const mtime = new Date(manifest.createdAt);
  archive.entry({ name: MANIFEST_NAME, mode: 0o600, mtime }, text);
  archive.entry({ name: STATE_NAME, type: "directory", mode: 0o700, mtime });
  for await (const { entry, content } of contents) await addEntry(archive, entry, content, mtime);
  archive.finalize();
}

async function addEntry(archive: Pack, entry: StateEntry, content: Bytes, linkTime: Date): Promise<void> {
  const name = nameOf(entry);
  switch (entry.kind) {
    case "folder":
      archive.entry({ name, type: "directory", mode: entry.mode, mtime: new Date(entry.modifiedMs) });
      return;
    case "link":
      archive.entry({ name, type: "symlink", linkname: entry.target, mtime: linkTime });
      return;
    case "file": {
      const { mode, size } = entry;
      const sink = archive.entry({ name, type: "file", mode, size, mtime: new Date(entry.modifiedMs) });
      // Its types are not those of Node's streams, which it can stand in for.
      await pipeline(content, sink as unknown as NodeJS.WritableStream);
    }
  }
}

export type ArchiveReader = {
  /** Comes first. What it throws ends the reading. */
  begin(manifest: StateManifest): Promise<void>;
  /** Comes for every entry in the manifest's order, and reads all of `content`, which throws at its end unless it is what was archived. */
  take(filled: FilledEntry): Promise<void>;
};

/**
 * Reads an archive that anybody may have made, to its end. It holds what its manifest says, no more and no less, or an error is thrown.
 * @throws UsageError
 */
export async function readArchive(archive: Bytes, reader: ArchiveReader): Promise<StateManifest> {
  const parts = partsOf(archive);
  try {
    return await readParts(parts, reader);
  } finally {
    await parts.return(undefined);
  }
}

async function readParts(parts: AsyncIterator<Part, undefined>, reader: ArchiveReader): Promise<StateManifest> {
  const manifest = parseManifest(await readManifestPart(parts));
  await reader.begin(manifest);
  await expectPart(parts, { name: STATE_NAME, type: "directory", size: 0, linkname: null });
  for (const entry of manifest.entries) {
    const part = await expectPart(parts, {
      name: nameOf(entry),
      type: TYPES[entry.kind],
      size: entry.kind === "file" ? entry.size : 0,
      linkname: entry.kind === "link" ? entry.target : null,
    });
    await reader.take({ entry, content: checked(part.content, entry) });
  }
  const more = await parts.next();
  if (more.done !== true) throw damaged(`${JSON.stringify(more.value.header.name)} is not in its manifest`);
  return manifest;
}

const TYPES = { folder: "directory", file: "file", link: "symlink" } as const;

/** Reads an archive for nothing but its being whole. */
export const discard: ArchiveReader = {
  async begin() {},
  async take({ content }) {
    for await (const _ of content);
  },
};

type Header = { name: string; type: string; size: number; linkname: string | null };
type Part = { header: Header; content: Bytes };

async function* partsOf(archive: Bytes): AsyncGenerator<Part, undefined, undefined> {
  const unpack = extract();
  const failure = pipeline(archive, unpack as unknown as NodeJS.WritableStream).then(
    () => undefined,
    (error: unknown) => error,
  );
  // Whoever reads from a stream that has failed may be told no more than that it has.
  const explain = async (error: unknown): Promise<unknown> => explainFailure((await failure) ?? error);
  try {
    for await (const part of unpack) {
      yield { header: part.header, content: translated(part as Bytes, explain) };
    }
  } catch (error) {
    throw await explain(error);
  } finally {
    unpack.destroy();
    await failure;
  }
}

async function* translated(
  content: Bytes,
  explain: (error: unknown) => Promise<unknown>,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* content;
  } catch (error) {
    throw await explain(error);
  }
}

/** The library's own errors are plain; others come from where the archive is read from, or from whoever ends the reading. */
function explainFailure(error: unknown): unknown {
  const isForeign = error instanceof OpenClawError || !(error instanceof Error) || "code" in error;
  return isForeign || error.name === "AbortError" ? error : damaged(error.message, error);
}

async function readManifestPart(parts: AsyncIterator<Part, undefined>): Promise<string> {
  const first = await parts.next();
  if (first.done === true || first.value.header.name !== MANIFEST_NAME || first.value.header.type !== "file")
    throw new UsageError("archive_foreign", "The archive is none of openclaw tenant export: it has no manifest.");
  if (first.value.header.size > MAX_MANIFEST_BYTES) throw damaged("its manifest is too large");
  return (await buffer(first.value.content)).toString("utf8");
}

async function expectPart(parts: AsyncIterator<Part, undefined>, expected: Header): Promise<Part> {
  const part = await parts.next();
  if (part.done === true) throw damaged(`${JSON.stringify(expected.name)} is missing`);
  const { name, type, size, linkname } = part.value.header;
  const isExpected =
    name === expected.name && type === expected.type && size === expected.size && linkname === expected.linkname;
  if (isExpected) return part.value;
  throw damaged(`${JSON.stringify(name)} is not what its manifest says comes here (${JSON.stringify(expected.name)})`);
}

async function* checked(content: Bytes, entry: StateEntry): AsyncGenerator<Uint8Array, void, undefined> {
  const hash = createHash("sha256");
  for await (const chunk of content) {
    hash.update(chunk);
    yield chunk;
  }
  if (entry.kind === "file" && hash.digest("hex") !== entry.sha256)
    throw damaged(`the content of ${JSON.stringify(entry.path)} is not what was archived`);
}

function nameOf({ path }: StateEntry): string {
  return `${STATE_NAME}/${path}`;
}

function damaged(problem: string, cause?: Error): UsageError {
  return new UsageError("archive_damaged", `The archive is damaged: ${problem}.`, { cause });
}
