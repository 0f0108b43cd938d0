import { spawn } from "node:child_process";
import type { Mount } from "./container-host.ts";

const MAX_OUTPUT = 20_000;

export type JobRun = {
  command: readonly string[];
  env: Readonly<Record<string, string>>;
  mounts: readonly Mount[];
  /** Where it runs when nothing is mounted. */
  folder: string;
  timeoutMs: number;
};

/**
 * Runs a job's container on this machine, its mounts' folders in place of their paths in arguments and environment. Resolves with what
 * it wrote once it ended.
 */
export function runJob({ command, env, mounts, folder, timeoutMs }: JobRun): {
  ended: Promise<{ succeeded: boolean; output: string }>;
  stop(): void;
} {
  const [program = "/bin/sh", ...args] = command.map((word) => localise(word, mounts));
  const [first = folder] = mounts.flatMap((mount) => ("folder" in mount ? [mount.folder] : []));
  const child = spawn(program, args, {
    cwd: first,
    env: {
      PATH: "/usr/local/bin:/usr/bin:/bin",
      ...Object.fromEntries(Object.entries(env).map(([name, value]) => [name, localise(value, mounts)])),
    },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => {
      output = `${output}${chunk.toString("utf8")}`.slice(-MAX_OUTPUT);
    });
  const ended = new Promise<{ succeeded: boolean; output: string }>((resolve) => {
    child.once("error", (error) => resolve({ succeeded: false, output: String(error) }));
    child.once("close", (code) => resolve({ succeeded: code === 0, output }));
  });
  return { ended, stop: () => void child.kill("SIGKILL") };
}

/** A text with the folders of mounts in place of their paths; the longest paths first, as one may lie in another. */
export function localise(text: string, mounts: readonly Mount[]): string {
  return mounts
    .toSorted((one, other) => other.path.length - one.path.length)
    .reduce((changed, mount) => ("folder" in mount ? changed.replaceAll(mount.path, mount.folder) : changed), text);
}
