import type { ServerResponse } from "node:http";
import { Writable } from "node:stream";
import type { Passage } from "./model-stream.ts";

/**
 * Takes an answer and writes what `passage` makes of it to the caller as it comes, no faster than the caller reads.
 * `onComplete` is waited for before the caller sees the end.
 */
export function writeAnswer(response: ServerResponse, passage: Passage, onComplete: () => Promise<void>): Writable {
  const write = (bytes: Buffer, done: () => void) => {
    if (bytes.length === 0 || response.write(bytes)) return done();
    response.once("drain", done);
  };
  return new Writable({
    write: (chunk: Buffer, _encoding, done) => write(passage.pass(chunk), done),
    final(done) {
      const last = passage.end();
      const end = () => {
        response.end(last);
        done();
      };
      onComplete().then(end, done);
    },
  });
}

/** Longer than any error that a provider words. */
const MAX_COLLECTED = 256 * 1024;

/** Takes an answer that is looked at as a whole, as far as it is of a reasonable length. */
export function collectInto(chunks: Buffer[]): Writable {
  let size = 0;
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      size += chunk.length;
      if (size <= MAX_COLLECTED) chunks.push(chunk);
      done();
    },
  });
}
