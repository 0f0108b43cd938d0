import { open } from "node:fs/promises";
import { Readable, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { discard, readArchive } from "../adapters/runtime/state-archive.ts";
import type { StateManifest } from "../adapters/runtime/state-manifest.ts";
import { type Bytes, joined, splitAt } from "../platform/byte-blocks.ts";
import { ConfigError, NotFoundError, UsageError } from "../platform/errors.ts";
import { isSealed, seal, SEALED_MARK_BYTES, unseal } from "../platform/sealed-stream.ts";

type BytesGenerator = AsyncGenerator<Uint8Array, void, undefined>;

const GZIP_MARK = Buffer.from([0x1f, 0x8b]);

/** An archive as it lies in a backup file: packed by gzip, and sealed if there is a passphrase. */
export function packBackup(archive: Bytes, passphrase: string | undefined): Bytes {
  const packed = through(archive, createGzip());
  return passphrase === undefined ? packed : seal(packed, passphrase);
}

/**
 * The archive in what `packBackup` made, whichever it is.
 * @throws ConfigError when it is sealed and the passphrase is missing or wrong, UsageError when it is something else, or damaged.
 */
export async function* unpackBackup(source: Bytes, passphrase: string | undefined): BytesGenerator {
  const { start, rest } = await splitAt(source, SEALED_MARK_BYTES);
  const whole = joined(start, rest);
  if (isSealed(start)) yield* unzipped(unseal(whole, requirePassphrase(passphrase)));
  else if (start.subarray(0, GZIP_MARK.length).equals(GZIP_MARK)) yield* unzipped(whole);
  else throw new UsageError("archive_foreign", "The file is none of openclaw tenant export.");
}

/** The archive in a backup file. @throws NotFoundError when it isn't there; else as `unpackBackup`. */
export async function* readBackup(file: string, passphrase: string | undefined): BytesGenerator {
  const stream = (await openBackup(file)).createReadStream();
  try {
    yield* unpackBackup(stream, passphrase);
  } finally {
    stream.destroy();
  }
}

/** Reads all of a backup file: what it holds is known to be whole afterwards. */
export async function inspectBackup(file: string, passphrase: string | undefined): Promise<StateManifest> {
  return readArchive(readBackup(file, passphrase), discard);
}

async function openBackup(file: string) {
  try {
    const handle = await open(file, "r");
    if ((await handle.stat()).isFile()) return handle;
    await handle.close();
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    if (error.code === "ENOENT") throw new NotFoundError("backup_absent", `There is no ${file}.`, { cause: error });
    throw new UsageError("backup_unreadable", `${file} can't be read: ${error.message}`, { cause: error });
  }
  throw new UsageError("backup_unreadable", `${file} is not a file.`);
}

function requirePassphrase(passphrase: string | undefined): string {
  if (passphrase !== undefined) return passphrase;
  throw new ConfigError("passphrase_missing", [
    "The backup is encrypted: set OPENCLAW_BACKUP_PASSPHRASE to its passphrase, or name a file that holds it with --passphrase-file",
  ]);
}

async function* unzipped(source: Bytes): BytesGenerator {
  try {
    yield* through(source, createGunzip());
  } catch (error) {
    if (!(error instanceof Error && "code" in error && String(error.code).startsWith("Z_"))) throw error;
    throw new UsageError("archive_damaged", `The archive is damaged: ${error.message}.`, { cause: error });
  }
}

/** What comes out of `transform`; the errors of `source` come out too. */
async function* through(source: Bytes, transform: Transform): BytesGenerator {
  const failure = pipeline(Readable.from(source), transform).then(
    () => undefined,
    (error: unknown) => error,
  );
  try {
    yield* transform as Bytes;
  } catch (error) {
    throw (await failure) ?? error;
  } finally {
    transform.destroy();
    await failure;
  }
}
