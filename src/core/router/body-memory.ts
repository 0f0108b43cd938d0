import { Readable } from "node:stream";
import { StringDecoder } from "node:string_decoder";

/** A body as text, until somebody takes it, and the room that it counts for, until that is given back. */
export type HeldBody = { bytes: number; takeText(): string; release(): void };

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
      const decoder = new StringDecoder("utf8");
      let text = "";
      let bytes = 0;
      let counted = 0;
      const release = () => {
        held -= counted;
        counted = 0;
      };
      try {
        for await (const chunk of stream instanceof Readable ? (stream as AsyncIterable<Buffer>) : []) {
          bytes += chunk.length;
          counted += chunk.length;
          held += chunk.length;
          if (bytes > maxBytes || held > totalBytes) {
            release();
            return bytes > maxBytes ? "too-large" : "busy";
          }
          text += decoder.write(chunk);
        }
      } catch (error) {
        release();
        throw error;
      }
      text += decoder.end();
      const takeText = () => {
        const taken = text;
        text = "";
        return taken;
      };
      return { bytes, takeText, release };
    },
  };
}
