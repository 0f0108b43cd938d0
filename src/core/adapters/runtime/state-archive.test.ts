import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { test } from "node:test";
import fc from "fast-check";
import { type Header, pack } from "tar-stream";
import type { Bytes } from "../../platform/byte-blocks.ts";
import { UsageError } from "../../platform/errors.ts";
import { someTenantId } from "./contract.ts";
import { type ArchiveReader, discard, type FilledEntry, readArchive, writeArchive } from "./state-archive.ts";
import { manifestOf, pathProblem, type StateEntry, type StateManifest } from "./state-manifest.ts";

const ABOUT = { tenantId: someTenantId(), slug: "acme", createdAt: "2026-03-01T12:00:00.000Z", driver: "local" };

type Content = Record<string, Buffer | "folder" | { target: string }>;

test("what was written is read again, whatever the names", async () => {
  await roundTrip({
    "MEMORY.md": Buffer.from("likes tea"),
    empty: "folder",
    "line\nbreak = ü\n": Buffer.alloc(300_000, 7),
    "-rf": Buffer.alloc(0),
    "back\\slash": Buffer.from([0]),
    " ": Buffer.alloc(511),
    日本: "folder",
    [`日本/${"n".repeat(255)}`]: Buffer.alloc(512),
    "日本/l\nü": { target: "../MEMORY.md" },
    long: "folder",
    ...Object.fromEntries(
      [1, 2, 3, 4].map((depth) => [`long/${Array.from({ length: depth }, () => "d".repeat(120)).join("/")}`, "folder"]),
    ),
  });
});

const name = fc
  .string({ unit: "grapheme", minLength: 1, maxLength: 130 })
  .filter((text) => pathProblem(text) === undefined && !text.includes("/") && text.isWellFormed());
test("any names and contents come out as they went in", async () => {
  const content = fc.dictionary(name, fc.uint8Array({ maxLength: 2_000 }), { maxKeys: 8 });
  await fc.assert(
    fc.asyncProperty(content, async (files) => {
      await roundTrip(Object.fromEntries(Object.entries(files).map(([at, bytes]) => [at, Buffer.from(bytes)])));
    }),
    { numRuns: Number(process.env["OPENCLAW_TEST_RUNS"] ?? 40) },
  );
});

test("an archive that is cut off anywhere is refused", async () => {
  const { archive } = await archiveOf({
    d: "folder",
    "d/a": Buffer.alloc(1_000, 1),
    b: Buffer.alloc(2_000, 2),
    l: { target: "b" },
  });
  const content = archive.length - 1_024;
  for (let length = 0; length < content; length += 97) await refuses(archive.subarray(0, length), `cut at ${length}`);
});

test("a changed byte never goes unnoticed where it matters", async () => {
  const { archive, manifest } = await archiveOf({ a: Buffer.alloc(700, 1), b: Buffer.from("likes tea") });
  for (let place = 0; place < archive.length - 1_024; place += 31) {
    const copy = Buffer.from(archive);
    copy[place] = (copy[place] ?? 0) ^ 0x20;
    const taken = collector();
    try {
      // Padding, and fields that nobody reads, may be anything.
      assert.deepEqual((await readArchive(inPieces(copy), taken)).entries, manifest.entries, `byte ${place}`);
    } catch (error) {
      assert.ok(error instanceof UsageError, `byte ${place}: ${String(error)}`);
      continue;
    }
    assert.deepEqual(
      [...taken.files],
      [
        ["a", Buffer.alloc(700, 1)],
        ["b", Buffer.from("likes tea")],
      ],
    );
  }
});

type Part = { header: Partial<Header> & { name: string }; body?: Buffer };
const part = (at: string, body: Buffer): Part => ({ header: { name: at }, body });
const manifestPart = (content: Content): Part =>
  part("manifest.json", Buffer.from(JSON.stringify(manifestFor(content))));
const root: Part = { header: { name: "state", type: "directory" } };
const tea = Buffer.from("tea");
const hostile: Record<string, Part[]> = {
  "nothing in it": [],
  "no manifest": [part("state/a", tea)],
  "a manifest that comes later": [root, manifestPart({})],
  "a manifest that is a link": [{ header: { name: "manifest.json", type: "symlink", linkname: "/etc/passwd" } }],
  "something beyond the manifest": [manifestPart({}), root, part("state/a", tea)],
  "something above the state": [manifestPart({ a: tea }), root, part("state/../a", tea)],
  "an absolute name": [manifestPart({ a: tea }), root, part("/etc/a", tea)],
  "a file twice": [manifestPart({ a: tea }), root, part("state/a", tea), part("state/a", tea)],
  "files in another order": [manifestPart({ a: tea, b: tea }), root, part("state/b", tea), part("state/a", tea)],
  "a link for a file": [
    manifestPart({ a: tea }),
    root,
    { header: { name: "state/a", type: "symlink", linkname: "b" } },
  ],
  "a hard link for a file": [
    manifestPart({ a: tea }),
    root,
    { header: { name: "state/a", type: "link", linkname: "/etc/passwd" } },
  ],
  "a device for a file": [
    manifestPart({ a: Buffer.alloc(0) }),
    root,
    { header: { name: "state/a", type: "block-device" } },
  ],
  "a pipe for a file": [manifestPart({ a: Buffer.alloc(0) }), root, { header: { name: "state/a", type: "fifo" } }],
  "a link to elsewhere": [
    manifestPart({ a: { target: "b" } }),
    root,
    { header: { name: "state/a", type: "symlink", linkname: "/etc" } },
  ],
  "a longer file": [manifestPart({ a: tea }), root, part("state/a", Buffer.from("teas"))],
  "another content": [manifestPart({ a: tea }), root, part("state/a", Buffer.from("tee"))],
  "a manifest of another openclaw's making": [part("manifest.json", Buffer.from("{}"))],
};
for (const [what, parts] of Object.entries(hostile)) {
  test(`an archive with ${what} is refused`, async () => refuses(await tarOf(parts), what));
}

test("sizes that are only declared cost nothing", async () => {
  const huge = 8 * 1024 ** 4;
  for (const parts of [
    [{ header: { name: "manifest.json", size: huge } }],
    [manifestPart({ a: tea }), root, { header: { name: "state/a", size: huge } }],
    [{ header: { name: "x", type: "pax-header" as Header["type"], size: huge } }],
  ] satisfies Part[][])
    await refuses(await tarOf(parts), "huge");
});

test("what the reader throws, and what the source throws, comes out as it is", async () => {
  const { archive } = await archiveOf({ a: Buffer.alloc(100_000, 1) });
  const own = new Error("no space");
  const failing: ArchiveReader = { begin: async () => undefined, take: () => Promise.reject(own) };
  await assert.rejects(readArchive(inPieces(archive), failing), own);
  const broken = Object.assign(new Error("EIO"), { code: "EIO" });
  const source = async function* () {
    yield archive.subarray(0, 20_000);
    throw broken;
  };
  await assert.rejects(readArchive(source(), discard), broken);
});

test("a content that fails, or is not as long as it was said to be, fails the archive", async () => {
  const manifest = manifestFor({ a: Buffer.alloc(1_000) });
  const [entry] = manifest.entries;
  assert.ok(entry);
  const own = new Error("state changed");
  const contents: (() => Bytes)[] = [
    async function* () {
      yield Buffer.alloc(10);
      throw own;
    },
    () => inPieces(Buffer.alloc(999)),
    () => inPieces(Buffer.alloc(1_001)),
  ];
  for (const content of contents) {
    const filled = async function* (): AsyncGenerator<FilledEntry> {
      yield { entry, content: content() };
    };
    await assert.rejects(buffer(writeArchive(manifest, filled())));
  }
});

async function roundTrip(content: Content): Promise<void> {
  const { archive, manifest } = await archiveOf(content);
  const taken = collector();
  assert.deepEqual(await readArchive(inPieces(archive), taken), manifest);
  const files = Object.entries(content).filter(([, value]) => Buffer.isBuffer(value));
  assert.deepEqual([...taken.files], files);
}

async function archiveOf(content: Content): Promise<{ archive: Buffer; manifest: StateManifest }> {
  const manifest = manifestFor(content);
  const filled = async function* (): AsyncGenerator<FilledEntry> {
    for (const entry of manifest.entries) {
      const body = content[entry.path];
      yield { entry, content: inPieces(Buffer.isBuffer(body) ? body : Buffer.alloc(0)) };
    }
  };
  return { archive: await buffer(writeArchive(manifest, filled())), manifest };
}

function manifestFor(content: Content): StateManifest {
  const entries = Object.entries(content).map(([path, value]): StateEntry => {
    if (value === "folder") return { kind: "folder", path, mode: 0o700, modifiedMs: 1_790_000_000_123 };
    if (!Buffer.isBuffer(value)) return { kind: "link", path, target: value.target };
    const sha256 = createHash("sha256").update(value).digest("hex");
    return { kind: "file", path, mode: 0o600, modifiedMs: 1_790_000_000_123, size: value.length, sha256 };
  });
  return manifestOf({ ...ABOUT, spec: null }, { entries, leftOut: [] });
}

function collector(): ArchiveReader & { files: Map<string, Buffer> } {
  const files = new Map<string, Buffer>();
  return {
    files,
    async begin() {},
    async take({ entry, content }) {
      const bytes = await buffer(content);
      if (entry.kind === "file") files.set(entry.path, bytes);
    },
  };
}

/** A tar archive of anything; without a body, the header stands for itself. */
async function tarOf(parts: readonly Part[]): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (const { header, body } of parts) {
    const one = pack();
    const whole = buffer(one as Bytes).catch(() => Buffer.alloc(0));
    if (body !== undefined) one.entry(header, body);
    else if (header.size === undefined) one.entry(header);
    else {
      pieces.push(await headerOf(header));
      one.destroy();
      continue;
    }
    one.finalize();
    pieces.push((await whole).subarray(0, -1_024));
  }
  return Buffer.concat([...pieces, Buffer.alloc(1_024)]);
}

/** The block of a file's header, whose content never comes. */
async function headerOf(header: Part["header"]): Promise<Buffer> {
  const one = pack();
  one.entry(header);
  for await (const chunk of one as Bytes) return Buffer.from(chunk);
  return Buffer.alloc(0);
}

async function* inPieces(bytes: Buffer, size = 4_000): AsyncGenerator<Uint8Array, void, undefined> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

async function refuses(archive: Buffer, what: string): Promise<void> {
  await assert.rejects(readArchive(inPieces(archive), discard), UsageError, what);
}
