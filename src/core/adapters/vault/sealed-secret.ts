import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { SecretVersion } from "./vault.ts";

const IV_BYTES = 12;
const TAG_BYTES = 16;
/** What a file begins with that names its version. */
const MAGIC = Buffer.from("openclaw\x01", "latin1");
const VERSION_BYTES = 16;

export const KEY_BYTES = 32;
/** The version of what was sealed when there were none: such files begin with no header. */
export const UNVERSIONED = "0".repeat(2 * VERSION_BYTES);

/** With AES-256-GCM, bound to its name and its version, which stands before it. */
export function seal(key: Buffer, name: string, { value, version }: SecretVersion): Buffer {
  const iv = randomBytes(IV_BYTES);
  const header = Buffer.concat([MAGIC, Buffer.from(version, "hex")]);
  const cipher = createCipheriv("aes-256-gcm", key, iv).setAAD(Buffer.concat([Buffer.from(name), header]));
  const body = Buffer.concat([cipher.update(value, "utf8"), cipher.final()]);
  return Buffer.concat([header, iv, cipher.getAuthTag(), body]);
}

/** @returns undefined for what was sealed with another key or for another name, and for what is damaged. */
export function unseal(key: Buffer, name: string, file: Buffer): SecretVersion | undefined {
  const hasHeader = file.subarray(0, MAGIC.length).equals(MAGIC);
  const header = file.subarray(0, hasHeader ? MAGIC.length + VERSION_BYTES : 0);
  const sealed = file.subarray(header.length);
  const iv = sealed.subarray(0, IV_BYTES);
  const tag = sealed.subarray(IV_BYTES, IV_BYTES + TAG_BYTES);
  if (tag.length < TAG_BYTES) return undefined;
  const decipher = createDecipheriv("aes-256-gcm", key, iv, { authTagLength: TAG_BYTES })
    .setAAD(Buffer.concat([Buffer.from(name), header]))
    .setAuthTag(tag);
  const bytes = decipher.update(sealed.subarray(IV_BYTES + TAG_BYTES));
  try {
    const value = Buffer.concat([bytes, decipher.final()]).toString("utf8");
    return { value, version: hasHeader ? header.subarray(MAGIC.length).toString("hex") : UNVERSIONED };
  } catch {
    // All that is told of a tag that doesn't fit.
    return undefined;
  }
}
