import { createCipheriv, createDecipheriv, randomBytes, scrypt } from "node:crypto";
import { blocksOf, type Bytes, splitAt } from "./byte-blocks.ts";
import { ConfigError, UsageError } from "./errors.ts";

/** Names the format; another one, such as with other costs of scrypt, gets another last byte. */
const MAGIC = Buffer.from("openclaw-sealed\u0001", "latin1");
const SALT_BYTES = 16;
const HEADER_BYTES = MAGIC.length + SALT_BYTES;
const BLOCK_BYTES = 65_536;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
/** 128 MiB and half a second for every guess. */
const SCRYPT = { N: 2 ** 17, r: 8, p: 1, maxmem: 192 * 1024 * 1024 };

/** How much of a stream `isSealed` has to see. */
export const SEALED_MARK_BYTES = MAGIC.length;

export function isSealed(start: Uint8Array): boolean {
  return MAGIC.equals(start.subarray(0, MAGIC.length));
}

/**
 * Seals a stream with AES-256-GCM under a key that scrypt makes of the passphrase and a fresh salt: a header of mark and salt, then
 * blocks of 64 KiB with a tag of 16 bytes each. A block's nonce is its number and whether it is the last, and all are bound to the
 * header: none can be changed, left out, moved or cut off unnoticed.
 */
export async function* seal(plain: Bytes, passphrase: string): AsyncGenerator<Buffer, void, undefined> {
  const header = Buffer.concat([MAGIC, randomBytes(SALT_BYTES)]);
  const key = await deriveKey(passphrase, header);
  yield header;
  let number = 0;
  for await (const { block, isLast } of blocksOf(plain, BLOCK_BYTES)) {
    const cipher = createCipheriv("aes-256-gcm", key, nonceOf(number, isLast)).setAAD(header);
    yield Buffer.concat([cipher.update(block), cipher.final(), cipher.getAuthTag()]);
    number += 1;
  }
}

/**
 * Opens what `seal` made. Nothing is given out that was not found to be untouched, but that the stream is whole is known only at its end.
 * @throws ConfigError when nothing can be opened, UsageError when it is damaged further on.
 */
export async function* unseal(sealed: Bytes, passphrase: string): AsyncGenerator<Buffer, void, undefined> {
  const { start: header, rest } = await splitAt(sealed, HEADER_BYTES);
  if (!isSealed(header) || header.length < HEADER_BYTES)
    throw new UsageError("archive_damaged", "It was not encrypted by openclaw, or ends within its first bytes.");
  const key = await deriveKey(passphrase, header);
  let number = 0;
  for await (const { block, isLast } of blocksOf(rest, BLOCK_BYTES + TAG_BYTES)) {
    yield openBlock(block, { key, header, number, isLast });
    number += 1;
  }
}

function openBlock(
  block: Buffer,
  { key, header, number, isLast }: { key: Buffer; header: Buffer; number: number; isLast: boolean },
): Buffer {
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, nonceOf(number, isLast), { authTagLength: TAG_BYTES })
      .setAAD(header)
      .setAuthTag(block.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(block.subarray(0, -TAG_BYTES)), decipher.final()]);
  } catch (error) {
    if (number > 0) throw new UsageError("archive_damaged", "It is damaged, or its end is missing.", { cause: error });
    throw new ConfigError(
      "passphrase_wrong",
      ["It can't be opened: it was encrypted with another passphrase, or is damaged at its beginning."],
      { cause: error },
    );
  }
}

function nonceOf(number: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeBigUInt64BE(BigInt(number), 3);
  nonce[NONCE_BYTES - 1] = isLast ? 1 : 0;
  return nonce;
}

function deriveKey(passphrase: string, header: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(passphrase.normalize("NFC"), header.subarray(MAGIC.length), KEY_BYTES, SCRYPT, (error, key) =>
      error === null ? resolve(key) : reject(error),
    );
  });
}
