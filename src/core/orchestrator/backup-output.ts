import { createHash, randomBytes } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { isDeepStrictEqual } from "node:util";
import { discard, readArchive } from "../adapters/runtime/state-archive.ts";
import type { StateManifest } from "../adapters/runtime/state-manifest.ts";
import type { Bytes } from "../platform/byte-blocks.ts";
import { ConflictError, UpstreamError } from "../platform/errors.ts";
import { syncFolder } from "../platform/sync-folder.ts";
import { packBackup, unpackBackup } from "./backup-file.ts";

type FileTarget = { kind: "file"; file: string; overwrite: boolean };
type StreamTarget = { kind: "stream"; stream: NodeJS.WritableStream };
/** Where a backup goes. Without a passphrase whoever gets hold of it can read it. */
export type BackupTarget = { passphrase: string | undefined } & (FileTarget | StreamTarget);

/** What was written, as it lies there: packed, and sealed if it is. */
export type WrittenBackup = { bytes: number; sha256: string; isVerified: boolean };

export type BackupOutput = {
  /** Packs and seals an archive on its way there. */
  write(archive: Bytes, signal: AbortSignal): Promise<void>;
  /** Reads back what was written, where that can be, before it counts as done. */
  finish(manifest: StateManifest, signal: AbortSignal): Promise<WrittenBackup>;
  /** After a failure: leaves nothing behind. */
  discard(): Promise<void>;
};

/** @throws ConflictError when the file is there already, UpstreamError when it can't be made. */
export async function openOutput(target: BackupTarget): Promise<BackupOutput> {
  return target.kind === "file" ? openFile(target, target.passphrase) : openStream(target, target.passphrase);
}

/** For its owner alone, and under another name until it is whole and was read back. */
async function openFile(target: FileTarget, passphrase: string | undefined): Promise<BackupOutput> {
  const { file } = target;
  requireFree(target);
  const draft = `${file}.${randomBytes(6).toString("hex")}.part`;
  const handle = await explainingFailure(file, () => open(draft, "wx", 0o600));
  const meter = createMeter();
  return {
    async write(archive, signal) {
      // It closes the handle, once all is on disk.
      const sink = handle.createWriteStream({ flush: true });
      await explainingFailure(file, () => pipeline(meter.count(packBackup(archive, passphrase)), sink, { signal }));
    },
    async finish(manifest, signal) {
      const written = meter.read();
      await verify(draft, { written, manifest, passphrase, signal });
      requireFree(target);
      await explainingFailure(file, () => rename(draft, file));
      await syncFolder(path.dirname(file));
      return { ...written, isVerified: true };
    },
    async discard() {
      await handle.close();
      await rm(draft, { force: true });
    },
  };
}

/** What has gone can't be read back here. */
async function openStream({ stream }: StreamTarget, passphrase: string | undefined): Promise<BackupOutput> {
  const meter = createMeter();
  return {
    async write(archive, signal) {
      const content = meter.count(packBackup(archive, passphrase));
      await explainingFailure("standard output", () => pipeline(content, stream, { signal, end: false }));
    },
    finish: async () => ({ ...meter.read(), isVerified: false }),
    async discard() {},
  };
}

function requireFree({ file, overwrite }: FileTarget): void {
  if (overwrite || !existsSync(file)) return;
  throw new ConflictError("output_exists", `${file} is there already; choose another name, or add --overwrite.`);
}

async function verify(
  file: string,
  expected: {
    written: { sha256: string };
    manifest: StateManifest;
    passphrase: string | undefined;
    signal: AbortSignal;
  },
): Promise<void> {
  const { written, signal } = expected;
  const meter = createMeter();
  const archive = unpackBackup(meter.count(createReadStream(file, { signal })), expected.passphrase);
  const manifest = await readArchive(archive, discard);
  if (meter.read().sha256 === written.sha256 && isDeepStrictEqual(manifest, expected.manifest)) return;
  throw new UpstreamError("backup_not_verified", `${file} reads back differently from what was written.`, {
    service: "file system",
    retryable: true,
  });
}

const WRITING = ["open", "write", "fsync", "rename"];

/** Says of what goes wrong in writing where that was; it is the only failure here that is the system's. */
async function explainingFailure<Result>(where: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Error && "syscall" in error && WRITING.includes(String(error.syscall)))) throw error;
    throw new UpstreamError("output_failed", `The backup can't be written to ${where}: ${error.message}`, {
      service: "file system",
      retryable: false,
      cause: error,
    });
  }
}

function createMeter() {
  const hash = createHash("sha256");
  let bytes = 0;
  return {
    async *count(source: Bytes): AsyncGenerator<Uint8Array, void, undefined> {
      for await (const chunk of source) {
        hash.update(chunk);
        bytes += chunk.byteLength;
        yield chunk;
      }
    },
    read: () => ({ bytes, sha256: hash.copy().digest("hex") }),
  };
}
