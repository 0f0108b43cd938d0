import { existsSync, readFileSync } from "node:fs";
import { mkdir, open, rename, type FileHandle } from "node:fs/promises";
import path from "node:path";

/** An update that was promised a turn. `answer` is kept from before a crash, so that the model isn't asked twice. */
export type Pending = { id: number; keys: readonly string[]; update: unknown; answer?: string };

export type Journal = {
  /** Resolves once the update is on disk; a repeated one (any of `keys` known) resolves likewise and is not queued again. */
  accept(pending: Pending): Promise<void>;
  /** The oldest update not done yet, which may have to arrive first; undefined once `signal` aborts. */
  next(signal: AbortSignal): Promise<Pending | undefined>;
  saveAnswer(pending: Pending, answer: string): Promise<void>;
  finish(pending: Pending): Promise<void>;
  close(): Promise<void>;
};

type Entry =
  | { kind: "accepted"; id: number; keys: readonly string[]; update: unknown }
  | { kind: "answer"; id: number; answer: string }
  | { kind: "done"; id: number; keys: readonly string[] };

/** How many finished updates are remembered to recognise repetitions, as many as the real runtime keeps. */
const REMEMBERED = 1_000;

/**
 * An append-only file of JSON lines. Lines that arrive while one write is being synced share the next one. Opening reads what a crash
 * left, a torn last line aside, and rewrites the file without what is finished.
 */
export async function openJournal(folder: string): Promise<Journal> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const file = path.join(folder, "inbox.jsonl");
  const { pending, done } = recover(file);
  const writer = await rewrite(file, [
    ...done.map((entry): Entry => ({ kind: "done", ...entry })),
    ...pending.flatMap(entriesOf),
  ]);

  const known = new Map<string, Promise<void>>();
  for (const { keys } of [...done, ...pending]) for (const key of keys) known.set(key, Promise.resolve());
  let wake: () => void = () => {};

  return {
    async accept(incoming) {
      const earlier = incoming.keys.map((key) => known.get(key)).find((promise) => promise !== undefined);
      if (earlier !== undefined) return earlier;
      const written = writer.append({
        kind: "accepted",
        id: incoming.id,
        keys: incoming.keys,
        update: incoming.update,
      });
      for (const key of incoming.keys) known.set(key, written);
      try {
        await written;
      } catch (error) {
        // It was not accepted, so it must be taken for new when it comes again.
        for (const key of incoming.keys) known.delete(key);
        throw error;
      }
      pending.push(incoming);
      wake();
    },
    async next(signal) {
      while (pending.length === 0 && !signal.aborted) {
        const { promise, resolve } = Promise.withResolvers<void>();
        const onAbort = (): void => resolve();
        wake = resolve;
        signal.addEventListener("abort", onAbort);
        await promise;
        signal.removeEventListener("abort", onAbort);
      }
      return signal.aborted ? undefined : pending[0];
    },
    saveAnswer(item, answer) {
      return writer.append({ kind: "answer", id: item.id, answer });
    },
    async finish(item) {
      await writer.append({ kind: "done", id: item.id, keys: item.keys });
      pending.splice(pending.indexOf(item), 1);
      done.push({ id: item.id, keys: item.keys });
      for (const forgotten of done.splice(0, done.length - REMEMBERED))
        for (const key of forgotten.keys) known.delete(key);
    },
    close: () => writer.close(),
  };
}

function recover(file: string): { pending: Pending[]; done: { id: number; keys: readonly string[] }[] } {
  const pending = new Map<number, Pending>();
  const done: { id: number; keys: readonly string[] }[] = [];
  const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  // What follows the last line break was being written when the process died: it was promised to nobody.
  for (const line of lines.slice(0, -1)) {
    const entry: Entry = JSON.parse(line);
    const open = pending.get(entry.id);
    if (entry.kind === "accepted") pending.set(entry.id, { id: entry.id, keys: entry.keys, update: entry.update });
    if (entry.kind === "answer" && open !== undefined) open.answer = entry.answer;
    if (entry.kind === "done") {
      pending.delete(entry.id);
      done.push({ id: entry.id, keys: entry.keys });
    }
  }
  return { pending: [...pending.values()], done: done.slice(-REMEMBERED) };
}

function entriesOf({ id, keys, update, answer }: Pending): Entry[] {
  const accepted: Entry = { kind: "accepted", id, keys, update };
  return answer === undefined ? [accepted] : [accepted, { kind: "answer", id, answer }];
}

async function rewrite(file: string, entries: readonly Entry[]): Promise<Writer> {
  const draft = await open(`${file}.tmp`, "w", 0o600);
  await draft.writeFile(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(""));
  await draft.datasync();
  await draft.close();
  await rename(`${file}.tmp`, file);
  return createWriter(await open(file, "a", 0o600));
}

type Writer = { append(entry: Entry): Promise<void>; close(): Promise<void> };

function createWriter(handle: FileHandle): Writer {
  let waiting: { line: string; resolve: () => void; reject: (error: unknown) => void }[] = [];
  let flushing: Promise<void> | undefined;

  async function flush(): Promise<void> {
    while (waiting.length > 0) {
      const batch = waiting;
      waiting = [];
      try {
        await handle.appendFile(batch.map((item) => item.line).join(""));
        await handle.datasync();
        for (const item of batch) item.resolve();
      } catch (error) {
        for (const item of batch) item.reject(error);
      }
    }
    flushing = undefined;
  }

  return {
    append(entry) {
      return new Promise((resolve, reject) => {
        waiting.push({ line: `${JSON.stringify(entry)}\n`, resolve, reject });
        flushing ??= flush();
      });
    },
    async close() {
      await flushing;
      await handle.close();
    },
  };
}
