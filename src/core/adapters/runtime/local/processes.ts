import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { open, rename } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { UpstreamError } from "../../../platform/errors.ts";
import { hasCode, type Owner } from "./files.ts";
import { identify, isAlive, isPidOfAnother, type ProcessIdentity } from "./process-identity.ts";

const GRACE_MS = 10_000;
const KILL_PATIENCE_MS = 5_000;
const POLL_MS = 20;
const LOG_ROTATE_BYTES = 10 * 1024 * 1024;

export type Launch = {
  command: string;
  args: readonly string[];
  cwd: string;
  env: Readonly<Record<string, string>>;
  owner: Owner | undefined;
  logFile: string;
};

/**
 * Starts a process that outlives us. It waits at a gate until `record` has resolved: should we die before its identity is on
 * disk, the gate's pipe closes and it ends without having run, so that no process runs unknown to the records.
 */
export async function startProcess(
  launch: Launch,
  record: (identity: ProcessIdentity) => Promise<void>,
): Promise<ChildProcess> {
  const log = await openLog(launch.logFile);
  try {
    const child = spawn(
      "/bin/sh",
      ["-c", 'read -r go && exec "$@" </dev/null', "openclaw-runtime", launch.command, ...launch.args],
      {
        cwd: launch.cwd,
        env: { ...launch.env },
        ...launch.owner,
        detached: true,
        stdio: ["pipe", log.fd, log.fd],
      },
    );
    await once(child, "spawn");
    child.unref();
    const { stdin } = child;
    const identity = child.pid === undefined ? undefined : await identify(child.pid);
    if (identity === undefined || stdin === null) {
      throw new UpstreamError("runtime_not_started", `${launch.command} ended before it began`, {
        service: "runtime",
        retryable: true,
      });
    }
    try {
      await record(identity);
    } catch (error) {
      stdin.destroy();
      throw error;
    }
    await new Promise<void>((resolve, reject) => {
      // It may have been killed at the gate.
      stdin.on("error", reject);
      stdin.end("go\n", () => resolve());
    });
    return child;
  } finally {
    await log.close();
  }
}

/**
 * Ends a process and its whole group: SIGTERM, then SIGKILL after 10 s. Returns once it is gone; one gone already is fine, and
 * children that outlived it end with it, so that nobody but its successor works on its state.
 */
export async function stopProcess(identity: ProcessIdentity): Promise<void> {
  if (await isAlive(identity)) await endLeader(identity);
  else if (await isPidOfAnother(identity)) return;
  // Children that outlived their leader still hold the group's id, so it can't have become somebody else's.
  signalGroup(identity.pid, "SIGKILL");
}

async function endLeader(identity: ProcessIdentity): Promise<void> {
  signalGroup(identity.pid, "SIGTERM");
  if (await isGoneWithin(identity, GRACE_MS)) return;
  signalGroup(identity.pid, "SIGKILL");
  if (await isGoneWithin(identity, KILL_PATIENCE_MS)) return;
  throw new UpstreamError("runtime_not_stopped", `Process ${identity.pid} doesn't end`, {
    service: "runtime",
    retryable: true,
  });
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // Nobody is left in the group.
    if (!hasCode(error, "ESRCH")) throw error;
  }
}

async function isGoneWithin(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (await isAlive(identity)) {
    if (performance.now() > deadline) return false;
    await delay(POLL_MS);
  }
  return true;
}

/** Appends; a long log gives way to a new one, and one old one is kept. */
async function openLog(file: string) {
  const log = await open(file, "a", 0o600);
  if ((await log.stat()).size < LOG_ROTATE_BYTES) return log;
  await log.close();
  await rename(file, `${file}.1`);
  return open(file, "a", 0o600);
}
