import { Transform, type TransformCallback } from "node:stream";
import { callbackify } from "node:util";
import { DONE, isUsageChunk, type UsageReader } from "./model-usage.ts";

/** Only what may tell of usage, or ends a stream, is parsed: most events are pieces of an answer. */
const TELLING = /"usage"\s*:\s*\{|^\[DONE\]/;
/** What is longer is not looked at: an answer's usage comes to a few hundred bytes, in an answer of a few megabytes at most. */
const MAX_LOOKED_AT = 16 * 1024 * 1024;

type Options = {
  reader: UsageReader;
  /** Called once, when the answer is complete, before its end is passed on. */
  onComplete(): Promise<void>;
  /** Called once, when either side breaks off before that. */
  onBroken(): void;
};

/** Passes an answer's bytes on as they come, and shows the reader what they say. */
export function meterWhole({ reader, onComplete, onBroken }: Options): Transform {
  const seen: Buffer[] = [];
  let size = 0;
  return passing({
    pass(chunk, done) {
      size += chunk.length;
      if (size <= MAX_LOOKED_AT) seen.push(chunk);
      done(null, chunk);
    },
    onBroken,
    async onComplete() {
      if (size <= MAX_LOOKED_AT) readJson(reader, Buffer.concat(seen).toString());
      await onComplete();
    },
  });
}

/** Passes a stream's bytes on as they come, and shows the reader the events that tell of usage. */
export function meterEvents({ reader, onComplete, onBroken }: Options): Transform {
  const lines = createLineReader((line) => readLine(reader, line));
  return passing({
    pass(chunk, done) {
      // Keys and numbers are ASCII: decoding the rest wrongly, but twice as fast, changes nothing here.
      lines.push(chunk.toString("latin1"));
      done(null, chunk);
    },
    onBroken,
    async onComplete() {
      lines.end();
      await onComplete();
    },
  });
}

/** The same for a caller that has not asked for the event that tells OpenAI's usage: every other event is passed on once it is whole. */
export function meterEventsUnseen({ reader, onComplete, onBroken }: Options): Transform {
  let rest = "";
  const takeEvents = (text: string): string => {
    const events = (rest + text).split(/(?<=\n\r?\n)/);
    const last = events.at(-1) ?? "";
    rest = /\n\r?\n$/.test(last) ? "" : (events.pop() ?? "");
    return events.filter((event) => !isUsageEvent(event)).join("");
  };
  const isUsageEvent = (event: string): boolean =>
    event
      .split("\n")
      .map((line) => readLine(reader, line))
      .some(isUsageChunk);
  return passing({
    pass(chunk, done) {
      const events = takeEvents(chunk.toString("latin1"));
      done(null, events === "" ? undefined : Buffer.from(events, "latin1"));
    },
    onBroken,
    async onComplete(push) {
      const last = rest;
      rest = "";
      if (last !== "" && !isUsageEvent(last)) push(Buffer.from(last, "latin1"));
      await onComplete();
    },
  });
}

function passing(options: {
  pass(chunk: Buffer, done: TransformCallback): void;
  onComplete(push: (chunk: Buffer) => void): Promise<void>;
  onBroken(): void;
}): Transform {
  let isOver = false;
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => options.pass(chunk, done),
    flush(done) {
      isOver = true;
      callbackify(() => options.onComplete((chunk) => void this.push(chunk)))(done);
    },
    destroy(error, done) {
      if (!isOver) options.onBroken();
      isOver = true;
      done(error);
    },
  });
}

function createLineReader(read: (line: string) => void) {
  let rest = "";
  return {
    push(text: string) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) read(line);
    },
    end() {
      read(rest);
      rest = "";
    },
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
