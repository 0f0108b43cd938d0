import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { glob, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { request } from "undici";
import { isAlive, type ProcessIdentity } from "../src/core/adapters/runtime/local/process-identity.ts";
import { packageRoot } from "../src/core/platform/package-root.ts";
import { until } from "../src/core/router/test-setup.ts";
import { undoAfter } from "./cleanup.ts";

type Line = { msg?: string; publicAddress?: string; internalAddress?: string; [field: string]: unknown };

export type Daemon = {
  child: ChildProcess;
  publicUrl: string;
  internalUrl: string;
  output: string[];
  /** The first line with this message, printed already or still to come. */
  saw(message: string): Promise<Line>;
  exit: Promise<number | null>;
};

/** Starts the built `openclaw daemon` on free ports and waits until it listens. It is killed after the test. */
export function startDaemon(t: TestContext, env: Record<string, string>, args: string[] = []): Promise<Daemon> {
  return startDaemonOf(t, [path.join(packageRoot(), "bin", "openclaw.js"), "daemon", ...args], env);
}

/** The same for a daemon of another script. */
export async function startDaemonOf(
  t: TestContext,
  command: readonly string[],
  env: Record<string, string>,
): Promise<Daemon> {
  const dataDir = await mkdtemp(path.join(tmpdir(), "openclaw-daemon-"));
  const child = spawn(process.execPath, [...command], {
    cwd: dataDir,
    env: {
      PATH: process.env["PATH"],
      OPENCLAW_DATA_DIR: dataDir,
      OPENCLAW_PUBLIC_LISTEN: "127.0.0.1:0",
      OPENCLAW_INTERNAL_LISTEN: "127.0.0.1:0",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exit = once(child, "exit").then(() => child.exitCode);
  undoAfter(t, async () => {
    child.kill("SIGKILL");
    await exit;
    await endRuntimes(env["OPENCLAW_DATA_DIR"] ?? dataDir);
    await rm(dataDir, { recursive: true, force: true });
  });
  const output: string[] = [];
  const waiting = new Set<() => void>();
  createInterface({ input: child.stderr }).on("line", (line) => {
    output.push(line);
    for (const look of waiting) look();
  });

  function saw(message: string): Promise<Line> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = output.map(parseLine).find((line) => line.msg === message);
        if (found === undefined) return;
        waiting.delete(look);
        resolve(found);
      };
      waiting.add(look);
      look();
      void exit.then((code) => reject(new Error(`the daemon ended with ${code}: ${output.slice(-5).join("\n")}`)));
    });
  }

  const ready = await saw("ready");
  return {
    child,
    publicUrl: ready.publicAddress ?? "",
    internalUrl: ready.internalAddress ?? "",
    output,
    saw,
    exit,
  };
}

/** Runtimes outlive their daemon; what a test leaves behind ends with it. Their numbers may be others' by now. */
async function endRuntimes(dataDir: string): Promise<void> {
  for await (const file of glob(path.join(dataDir, "runtimes", "*", "process.json"))) {
    const identity: ProcessIdentity = JSON.parse(await readFile(file, "utf8"));
    if (!(await isAlive(identity))) continue;
    process.kill(-identity.pid, "SIGKILL");
    await until(async () => !(await isAlive(identity)), "a runtime that was killed is gone");
  }
}

function parseLine(line: string): Line {
  return line.startsWith("{") ? JSON.parse(line) : {};
}

export async function call(url: string, options: Parameters<typeof request>[1] = {}) {
  const { statusCode, headers, body } = await request(url, options);
  const text = await body.text();
  return { status: statusCode, headers, text, json: text.startsWith("{") ? JSON.parse(text) : undefined };
}
