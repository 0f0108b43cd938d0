import { Readable } from "node:stream";

export type HeldBody = { body: Buffer; release(): void };

/** Why a body can't be taken. */
export type BodyRefusal = "too-large" | "busy";

/**
 * Reads bodies whole, each `maxBytes` at most, and all that are held at once `totalBytes` at most, however many runtimes send
 * however much.
 */
export function createBodyMemory({ maxBytes, totalBytes }: { maxBytes: number; totalBytes: number }) {
  let held = 0;
  return {
    async read(stream: unknown): Promise<HeldBody | BodyRefusal> {
      const chunks: Buffer[] = [];
      let size = 0;
      const release = () => {
        held -= size;
        size = 0;
      };
      try {
        for await (const bytes of stream instanceof Readable ? (stream as AsyncIterable<Buffer>) : []) {
          size += bytes.length;
          held += bytes.length;
          if (size > maxBytes || held > totalBytes) {
            const refusal = size > maxBytes ? "too-large" : "busy";
            release();
            return refusal;
          }
          chunks.push(bytes);
        }
      } catch (error) {
        release();
        throw error;
      }
      return { body: Buffer.concat(chunks), release };
    },
  };
}
