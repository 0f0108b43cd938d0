import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { UpstreamError } from "../../core/platform/errors.ts";
import { packageRoot } from "../../core/platform/package-root.ts";

export type DaemonProcess = {
  publicUrl: string;
  /** Settles when the daemon has ended, by itself or not. */
  ended: Promise<void>;
  stop(): Promise<void>;
};

/** Starts `openclaw daemon` as a process of its own and waits until it works; its log goes to `<dataDir>/daemon.log`. */
export async function startDaemonProcess(dataDir: string, env: Record<string, string>): Promise<DaemonProcess> {
  const child = spawn(process.execPath, [path.join(packageRoot(), "bin", "openclaw.js"), "daemon"], {
    // With the channel below: it ends when this process is killed, as if the two were one.
    env: { ...env, OPENCLAW_LAUNCHED: "1" },
    // Ctrl-C is for this process, which stops the daemon in its turn.
    detached: true,
    // Away from the .env of the folder where the command was typed: it belongs to real accounts.
    cwd: dataDir,
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const publicUrl = await untilWorking(child, path.join(dataDir, "daemon.log"), ended);
  return {
    publicUrl,
    ended,
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

async function untilWorking(child: ChildProcess, logFile: string, ended: Promise<void>): Promise<string> {
  if (child.stderr === null) throw new Error("the daemon has no standard error");
  child.stderr.pipe(createWriteStream(logFile, { flags: "a", mode: 0o600 }));
  const working = Promise.withResolvers<string>();
  let address = "";
  createInterface({ input: child.stderr }).on("line", (line) => {
    const entry = parseLine(line);
    if (entry.msg === "ready") address = entry.publicAddress ?? "";
    if (entry.msg === "working") working.resolve(address);
  });
  const gone = ended.then(() => {
    throw new UpstreamError("daemon_ended", `the daemon ended before it was ready; see ${logFile}`, {
      service: "daemon",
      retryable: false,
    });
  });
  return Promise.race([working.promise, gone]);
}

function parseLine(line: string): { msg?: string; publicAddress?: string } {
  // A crash prints plain text.
  return line.startsWith("{") ? JSON.parse(line) : {};
}
