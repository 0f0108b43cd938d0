import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { test } from "node:test";
import { type Bytes } from "./byte-blocks.ts";
import { ConfigError, UsageError } from "./errors.ts";
import { isSealed, seal, unseal } from "./sealed-stream.ts";

const PASSPHRASE = "a passphrase for tests";
const BLOCK = 65_536;
const HEADER = 32;

// Every key costs half a second by design: what can be is done at once.

test("what is sealed opens again, whatever its length and however it is cut up", async () => {
  const lengths = [0, BLOCK, BLOCK + 1, 200_000];
  await Promise.all(
    lengths.map(async (length) => {
      const plain = randomBytes(length);
      const sealed = await buffer(seal(inPieces(plain, 10_007), PASSPHRASE));
      assert.ok(isSealed(sealed));
      assert.equal(sealed.length, HEADER + length + 16 * Math.max(1, Math.ceil(length / BLOCK)));
      assert.ok(plain.equals(await buffer(unseal(inPieces(sealed, 4_096), PASSPHRASE))), String(length));
    }),
  );
});

test("the same content is sealed differently every time, and shows nothing of itself", async () => {
  const plain = Buffer.from("likes tea. ".repeat(100));
  const [first, second] = await Promise.all([1, 2].map(() => buffer(seal(inPieces(plain), PASSPHRASE))));
  assert.ok(first !== undefined && second !== undefined);
  assert.ok(!first.subarray(16).equals(second.subarray(16)));
  assert.ok(!first.includes("tea"));
});

test("another passphrase is said to be one", async () => {
  const sealed = await buffer(seal(inPieces(randomBytes(100)), PASSPHRASE));
  await assert.rejects(
    buffer(unseal(inPieces(sealed), "another passphrase, as long")),
    (error) => error instanceof ConfigError && error.code === "passphrase_wrong",
  );
});

test("a change, a cut, a swap or an addition anywhere is found", async () => {
  const sealed = await buffer(seal(inPieces(randomBytes(3 * BLOCK + 5)), PASSPHRASE));
  const at = (block: number) => HEADER + block * (BLOCK + 16);
  const flipped = (place: number) => {
    const copy = Buffer.from(sealed);
    copy[place] = (copy[place] ?? 0) ^ 1;
    return copy;
  };
  const block = (number: number) => sealed.subarray(at(number), at(number + 1));
  const damaged = {
    "a bit of the salt": flipped(20),
    "a bit of the first block": flipped(at(0) + 7),
    "a bit of the last tag": flipped(sealed.length - 1),
    "a bit in the middle": flipped(at(2) + 9),
    "cut within a block": sealed.subarray(0, at(2) + 9),
    "cut between blocks": sealed.subarray(0, at(2)),
    "cut after the header": sealed.subarray(0, HEADER),
    "cut in the header": sealed.subarray(0, HEADER - 1),
    "two blocks swapped": Buffer.concat([sealed.subarray(0, HEADER), block(1), block(0), sealed.subarray(at(2))]),
    "a block left out": Buffer.concat([sealed.subarray(0, at(1)), sealed.subarray(at(2))]),
    "something added": Buffer.concat([sealed, Buffer.from("x")]),
  };
  await Promise.all(
    Object.entries(damaged).map(([what, bytes]) =>
      assert.rejects(
        buffer(unseal(inPieces(bytes), PASSPHRASE)),
        (error) => error instanceof UsageError || error instanceof ConfigError,
        what,
      ),
    ),
  );
});

async function* inPieces(bytes: Buffer, size = 1_000): Bytes & AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}
