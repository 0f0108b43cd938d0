import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { hasCode } from "./files.ts";

/** A process that can't be mistaken for a later one with the same pid, nor for one from before a reboot. */
export type ProcessIdentity = { pid: number; startedAt: string };

/** The living process with this pid. One that died and was not reaped yet doesn't count. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const startedAt = process.platform === "linux" ? await startOnLinux(pid) : await startByPs(pid);
  return startedAt === undefined ? undefined : { pid, startedAt };
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  return (await identify(identity.pid))?.startedAt === identity.startedAt;
}

/** Whether the pid belongs, or may belong, to somebody else by now: it was given out again, or the machine restarted. */
export async function isPidOfAnother({ pid, startedAt }: ProcessIdentity): Promise<boolean> {
  const current = await identify(pid);
  if (current !== undefined) return current.startedAt !== startedAt;
  return process.platform === "linux" && !startedAt.startsWith(`${await bootId()}/`);
}

async function startOnLinux(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    // The program's name, in brackets, may itself hold spaces and brackets: count from the last one. Field 3 comes first then.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state, ticks] = [fields[0], fields[19]];
    return state === "Z" || state === "X" ? undefined : `${await bootId()}/${ticks}`;
  } catch (error) {
    if (hasCode(error, "ENOENT", "ESRCH")) return undefined;
    throw error;
  }
}

async function startByPs(pid: number): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)("ps", ["-o", "stat=,lstart=", "-p", String(pid)], {
      env: { LC_ALL: "C" },
    });
    const [, state, start] = /^(\S+)\s+(.+?)\s*$/.exec(stdout) ?? [];
    return state?.startsWith("Z") ? undefined : start;
  } catch (error) {
    // ps says with 1 that there is no such process.
    if (error instanceof Error && "code" in error && error.code === 1) return undefined;
    throw error;
  }
}

let boot: Promise<string> | undefined;
function bootId(): Promise<string> {
  boot ??= readFile("/proc/sys/kernel/random/boot_id", "latin1").then((text) => text.trim());
  return boot;
}
