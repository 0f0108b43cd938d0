import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { withFileLock } from "./file-lock.ts";

async function someFile(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-lock-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return path.join(folder, "one.lock");
}

test("only one holds the lock at a time, and it is free afterwards", async (t) => {
  const file = await someFile(t);
  let inside = 0;
  let most = 0;
  const results = await Promise.all(
    [1, 2, 3, 4, 5].map((number) =>
      withFileLock(file, async () => {
        most = Math.max(most, ++inside);
        await new Promise((resolve) => setImmediate(resolve));
        inside -= 1;
        return number;
      }),
    ),
  );
  assert.deepEqual(results, [1, 2, 3, 4, 5]);
  assert.equal(most, 1);
  assert.equal(existsSync(file), false);
});

test("the lock of a process that was killed is free, for one of many that wait (F12)", async (t) => {
  const file = await someFile(t);
  const program = `
    import { withFileLock } from ${JSON.stringify(path.join(import.meta.dirname, "file-lock.ts"))};
    await withFileLock(process.argv[1], async () => { console.log("held"); await new Promise((resolve) => setInterval(resolve, 1 << 30)); });
  `;
  const holder = spawn(process.execPath, ["--input-type=module", "--eval", program, file], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(holder.stdout, "data");
  let inside = 0;
  let most = 0;
  const waiting = [1, 2, 3, 4].map(() =>
    withFileLock(file, async () => {
      most = Math.max(most, ++inside);
      await new Promise((resolve) => setImmediate(resolve));
      inside -= 1;
    }),
  );
  await assert.rejects(
    withFileLock(file, async () => {}, AbortSignal.timeout(100)),
    { name: "AbortError" },
  );
  holder.kill("SIGKILL");
  await once(holder, "exit");
  await Promise.all(waiting);
  assert.equal(most, 1);
});
