import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { buildDaemon } from "./daemon-build.ts";

const LOG_TAIL = 20;

export type DaemonProcess = {
  /** Of the public listener. */
  url: string;
  /** Of the internal listener. */
  internalUrl: string;
  pid: number;
  /** Settles with the last lines of its log when it ends, however that comes about. */
  ended: Promise<string>;
  kill(): Promise<void>;
  /** Settles with the exit code. */
  stop(): Promise<number | null>;
};

/** Starts a daemon and waits until it works; its log is appended to `logFile`. */
export async function startDaemon(options: {
  env: Record<string, string>;
  /** All of them unless given. */
  roles?: string;
  runtimesFile?: string;
  logFile: string;
}): Promise<DaemonProcess> {
  const { roles = "web,gateway,worker", runtimesFile = "" } = options;
  const child = spawn(process.execPath, [buildDaemon(), roles, runtimesFile], {
    env: { PATH: process.env["PATH"], ...options.env },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  const ended = once(child, "exit");
  if (child.stderr === null) throw new Error("the daemon has no standard error");
  child.stderr.pipe(createWriteStream(options.logFile, { flags: "a" }));
  const isUp = roles.includes("worker") ? "working" : "ready";
  const up = Promise.withResolvers<Line>();
  let ready: Line = {};
  const said: string[] = [];
  createInterface({ input: child.stderr }).on("line", (text) => {
    said.push(text);
    if (said.length > LOG_TAIL) said.shift();
    const line = parseLine(text);
    if (line.msg === "ready") ready = line;
    if (line.msg === isUp) up.resolve(ready);
  });
  const {
    publicAddress = "",
    internalAddress = "",
    pid = 0,
  } = await Promise.race([
    up.promise,
    ended.then(() => Promise.reject(new Error(`the daemon ended before it worked:\n${said.join("\n")}`))),
  ]);
  return {
    url: publicAddress,
    internalUrl: internalAddress,
    pid,
    ended: ended.then(() => said.join("\n")),
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
    async stop() {
      child.kill("SIGTERM");
      await ended;
      return child.exitCode;
    },
  };
}

type Line = { msg?: string; publicAddress?: string; internalAddress?: string; pid?: number };

function parseLine(line: string): Line {
  // A crash prints plain text.
  return line.startsWith("{") ? JSON.parse(line) : {};
}
