import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

export type DaemonProcess = {
  /** Of the public listener. */
  url: string;
  kill(): Promise<void>;
  /** Settles with the exit code. */
  stop(): Promise<number | null>;
};

/** Starts a daemon and waits until it works; its log is appended to `logFile`. */
export async function startDaemon(options: {
  env: Record<string, string>;
  runtimesFile: string;
  logFile: string;
}): Promise<DaemonProcess> {
  const script = path.join(import.meta.dirname, "daemon.ts");
  const child = spawn(process.execPath, [script, options.runtimesFile], {
    env: { PATH: process.env["PATH"], ...options.env },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  const ended = once(child, "exit");
  if (child.stderr === null) throw new Error("the daemon has no standard error");
  child.stderr.pipe(createWriteStream(options.logFile, { flags: "a" }));
  const working = Promise.withResolvers<{ url: string; pid: number }>();
  let ready = { url: "", pid: 0 };
  createInterface({ input: child.stderr }).on("line", (line) => {
    const entry = parseLine(line);
    if (entry.msg === "ready") ready = { url: entry.publicAddress ?? "", pid: entry.pid ?? 0 };
    if (entry.msg === "working") working.resolve(ready);
  });
  const { url, pid } = await Promise.race([
    working.promise,
    ended.then(() => Promise.reject(new Error(`the daemon ended before it worked; see ${options.logFile}`))),
  ]);
  return {
    url,
    async kill() {
      process.kill(pid, "SIGKILL");
      await ended;
    },
    async stop() {
      child.kill("SIGTERM");
      await ended;
      return child.exitCode;
    },
  };
}

function parseLine(line: string): { msg?: string; publicAddress?: string; pid?: number } {
  // A crash prints plain text.
  return line.startsWith("{") ? JSON.parse(line) : {};
}
