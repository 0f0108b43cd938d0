import type { IncomingHttpHeaders } from "node:http";
import { Readable } from "node:stream";

/** A body as text, until somebody takes it, and the room that it counts for, until that is given back. */
export type HeldBody = { takeText(): string; release(): void };

/** Why a body can't be taken. */
export type BodyRefusal = "too-large" | "busy" | "not-utf-8";

/** Of one body, */
export const MAX_BODY_BYTES = 32 * 1024 * 1024;
/** of all that one owner has here at once, so that nobody keeps the others from being heard, */
const BYTES_EACH = 2 * MAX_BODY_BYTES;
/** and of all together. */
const TOTAL_BYTES = 256 * 1024 * 1024;
/** In which a body has to arrive. */
const PATIENCE_MS = 60_000;

/** Reads bodies whole, and holds no more of them at once than that, however many runtimes send however much. */
export function createBodyMemory() {
  const heldBy = new Map<string, number>();
  let total = 0;

  function hold(owner: string, bytes: number): void {
    total += bytes;
    const own = (heldBy.get(owner) ?? 0) + bytes;
    if (own === 0) heldBy.delete(owner);
    else heldBy.set(owner, own);
  }

  return {
    async read(
      owner: string,
      { headers, body: stream }: { headers: IncomingHttpHeaders; body: unknown },
    ): Promise<HeldBody | BodyRefusal> {
      if (Number(headers["content-length"] ?? 0) > MAX_BODY_BYTES) return "too-large";
      if (!(stream instanceof Readable)) return { takeText: () => "", release: () => undefined };
      // Strictly: what stands for bytes that are no text would be longer than they are.
      const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
      const late = setTimeout(() => stream.destroy(new Error("the body took too long")), PATIENCE_MS);
      let text = "";
      let bytes = 0;
      const release = () => {
        hold(owner, -bytes);
        bytes = 0;
      };
      try {
        for await (const chunk of stream as AsyncIterable<Buffer>) {
          bytes += chunk.length;
          hold(owner, chunk.length);
          const isTooLarge = bytes > MAX_BODY_BYTES;
          if (isTooLarge || (heldBy.get(owner) ?? 0) > BYTES_EACH || total > TOTAL_BYTES) {
            release();
            return isTooLarge ? "too-large" : "busy";
          }
          text += decoder.decode(chunk, { stream: true });
        }
        text += decoder.decode();
      } catch (error) {
        release();
        if (error instanceof TypeError) return "not-utf-8";
        throw error;
      } finally {
        clearTimeout(late);
      }
      const takeText = () => {
        const taken = text;
        text = "";
        return taken;
      };
      return { takeText, release };
    },
  };
}
