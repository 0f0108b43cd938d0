import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import path from "node:path";

/** A server of a benchmark in a process of its own. */
export type ServerProcess = { url: string; pid: number; stop(): Promise<void> };

/** Starts `bench/servers/<name>.ts`, which sends `{ url }` when it listens. */
export async function startServer(name: string, args: readonly string[] = []): Promise<ServerProcess> {
  const child = fork(path.join(import.meta.dirname, "servers", `${name}.ts`), args);
  const ended = once(child, "exit");
  const [{ url }] = await Promise.race([
    once(child, "message"),
    ended.then(() => Promise.reject(new Error(`the server ${name} ended before it listened`))),
  ]);
  if (child.pid === undefined) throw new Error(`the server ${name} has no process`);
  return {
    url,
    pid: child.pid,
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

const TICKS_PER_SECOND = 100;

/** CPU time that a process has used, user and system, in microseconds; in steps of 10 ms. */
export function cpuMicros(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1e6;
}

/** The most memory that a process has held, in bytes. */
export function peakMemoryBytes(pid: number): number {
  const kilobytes = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kilobytes) * 1_024;
}
