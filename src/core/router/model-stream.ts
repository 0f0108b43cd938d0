import { DONE, isUsageChunk, type UsageReader } from "./model-usage.ts";

/** What becomes of an answer's bytes on their way, which a reader is shown meanwhile. */
export type Passage = {
  /** @returns what is to be passed on now. */
  pass(chunk: Buffer): Buffer;
  /** The answer is complete. @returns what is left to be passed on. */
  end(): Buffer;
};

/** Only what may tell of usage, or ends a stream, is parsed: most events are pieces of an answer. */
const TELLING = /"usage"\s*:\s*\{|^\[DONE\]/;
/** What is longer is not looked at: an answer's usage comes to a few hundred bytes, in an answer of a few megabytes at most. */
const MAX_LOOKED_AT = 16 * 1024 * 1024;
const NOTHING = Buffer.alloc(0);
const NEWLINE = 0x0a;

/** Passes a whole answer on as it comes. */
export function passWhole(reader: UsageReader): Passage {
  const seen: Buffer[] = [];
  let size = 0;
  return {
    pass(chunk) {
      size += chunk.length;
      if (size <= MAX_LOOKED_AT) seen.push(chunk);
      return chunk;
    },
    end() {
      if (size <= MAX_LOOKED_AT) readJson(reader, Buffer.concat(seen).toString());
      return NOTHING;
    },
  };
}

/** Passes a stream of events on as it comes. */
export function passEvents(reader: UsageReader): Passage {
  const { marks } = reader;
  let rest = "";
  return {
    pass(chunk) {
      // Whole lines of which none can tell anything, as nearly all are.
      if (rest === "" && chunk.at(-1) === NEWLINE && !marks.some((mark) => chunk.includes(mark))) return chunk;
      // Keys and numbers are ASCII: decoding the rest wrongly, but twice as fast, changes nothing here.
      const lines = (rest + chunk.toString("latin1")).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) readLine(reader, line);
      return chunk;
    },
    end() {
      readLine(reader, rest);
      return NOTHING;
    },
  };
}

/** The same for a caller that has not asked for the event that tells OpenAI's usage: every other event is passed on once it is whole. */
export function passEventsUnseen(reader: UsageReader): Passage {
  let rest = "";
  const isUsageEvent = (event: string): boolean =>
    event
      .split("\n")
      .map((line) => readLine(reader, line))
      .some(isUsageChunk);
  return {
    pass(chunk) {
      const events = (rest + chunk.toString("latin1")).split(/(?<=\n\r?\n)/);
      const last = events.at(-1) ?? "";
      rest = /\n\r?\n$/.test(last) ? "" : (events.pop() ?? "");
      return Buffer.from(events.filter((event) => !isUsageEvent(event)).join(""), "latin1");
    },
    end: () => (isUsageEvent(rest) ? NOTHING : Buffer.from(rest, "latin1")),
  };
}

/** @returns what the line says, where it may tell of usage. */
function readLine(reader: UsageReader, line: string): unknown {
  if (!line.startsWith("data:")) return undefined;
  const data = line.slice(5).trim();
  return TELLING.test(data) ? readJson(reader, data) : undefined;
}

function readJson(reader: UsageReader, text: string): unknown {
  let data: unknown = DONE;
  if (text !== DONE) {
    try {
      data = JSON.parse(text);
    } catch {
      // Not what this API answers: the caller gets it as it is, and the call's end stays unknown.
      return undefined;
    }
  }
  reader.read(data);
  return data;
}
