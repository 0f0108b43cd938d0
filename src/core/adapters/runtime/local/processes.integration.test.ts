import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { until } from "../contract.ts";
import { identify, isAlive, isPidOfAnother, type ProcessIdentity } from "./process-identity.ts";
import { startProcess, stopProcess } from "./processes.ts";

test("children that outlive a process killed alone are ended before its successor starts (F42)", async (t) => {
  const cwd = await mkdtemp(path.join(tmpdir(), "openclaw-processes-"));
  t.after(() => rm(cwd, { recursive: true }));
  let leader: ProcessIdentity | undefined;
  // As the real OpenClaw does it: a parent that only waits, and a child that works.
  await startProcess(
    {
      command: "/bin/sh",
      args: ["-c", "sleep 300 & echo $! > child; wait"],
      cwd,
      env: { PATH: "/usr/bin:/bin" },
      owner: undefined,
      logFile: path.join(cwd, "log"),
    },
    async (identity) => {
      leader = identity;
    },
  );
  assert.ok(leader !== undefined);
  const { pid } = leader;
  const childPid = async () => Number(await readFile(path.join(cwd, "child"), "utf8").catch(() => "0"));
  const child = await until(async () => identify(await childPid()), "the child to start");

  process.kill(pid, "SIGKILL");
  await until(async () => !(await identify(pid)) || undefined, "the parent to end");
  assert.equal(await isAlive(child), true);
  await stopProcess(leader);
  await until(async () => !(await isAlive(child)) || undefined, "the child to end");
});

test("a pid that was given out again, or is from before a reboot, is somebody else's", async () => {
  const self = await identify(process.pid);
  assert.ok(self !== undefined);
  assert.equal(await isPidOfAnother(self), false);
  assert.equal(await isPidOfAnother({ ...self, startedAt: `${self.startedAt}0` }), true);
});
