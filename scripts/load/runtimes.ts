import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";

/** An update that reached a runtime; `atMicros` is on the machine's monotonic clock, see `nowMicros`. */
export type Arrival = { chat: number; updateId: number; atMicros: number };

export type Runtimes = {
  address(chat: number): string;
  /** In the order in which they came, since the last `forget`. */
  arrivals(): Arrival[];
  forget(): void;
  /** Kills them all with SIGKILL and starts them again at their addresses. */
  killAndRestart(): Promise<void>;
  stop(): Promise<void>;
};

/** The clock by which arrivals are noted, the same in every process. */
export function nowMicros(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}

/** A runtime for each chat, all in one process of their own. `journal` is the file in which they write down what arrives. */
export async function startRuntimes(
  chats: readonly number[],
  options: { journal: string; mostAnswerMs: number },
): Promise<Runtimes> {
  writeFileSync(options.journal, "");
  let server = await startServer(options, Array<number>(chats.length).fill(0));
  const ports = server.ports;
  const portOf = new Map(chats.map((chat, index) => [chat, ports[index]]));
  let start = 0;
  return {
    address: (chat) => `http://127.0.0.1:${portOf.get(chat)}`,
    arrivals() {
      const lines = readFileSync(options.journal).subarray(start).toString("latin1").trimEnd();
      return lines === "" ? [] : lines.split("\n").map(toArrival);
    },
    forget() {
      start = statSync(options.journal).size;
    },
    async killAndRestart() {
      await end(server.child, "SIGKILL");
      server = await startServer(options, ports);
    },
    stop: () => end(server.child, "SIGTERM"),
  };
}

async function startServer({ journal, mostAnswerMs }: { journal: string; mostAnswerMs: number }, ports: number[]) {
  const script = path.join(import.meta.dirname, "runtime-server.ts");
  const child = fork(script, [journal, String(mostAnswerMs), ...ports.map(String)]);
  const failed = once(child, "exit").then(() => Promise.reject(new Error("the runtimes ended before they listened")));
  const [{ ports: listening }] = (await Promise.race([once(child, "message"), failed])) as [{ ports: number[] }];
  return { child, ports: listening };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill(signal);
  await ended;
}

function toArrival(line: string): Arrival {
  const [chat, updateId, atMicros] = line.split(" ").map(Number);
  return { chat: chat ?? Number.NaN, updateId: updateId ?? Number.NaN, atMicros: atMicros ?? Number.NaN };
}
