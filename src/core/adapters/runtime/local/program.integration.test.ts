import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, cp, lstat, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { ConfigError } from "../../../platform/errors.ts";
import { reachableCopy } from "./program.ts";

const NOT_ROOT = { skip: process.getuid?.() !== 0 };
const STRANGER = { uid: 61_999, gid: 61_999 };

/** The sandbox runtime in a folder that only root enters, and a folder for copies. */
async function hiddenProgram(t: TestContext): Promise<{ node: string; script: string; cacheFolder: string }> {
  const base = await mkdtemp(path.join(tmpdir(), "openclaw-program-"));
  t.after(() => rm(base, { recursive: true, force: true }));
  await chmod(base, 0o755);
  const hidden = path.join(base, "hidden");
  const cacheFolder = path.join(base, "cache");
  await mkdir(hidden, { mode: 0o700 });
  await mkdir(cacheFolder, { mode: 0o755 });
  await cp(path.join(import.meta.dirname, "sandbox"), path.join(hidden, "sandbox"), { recursive: true });
  await cp(path.join(import.meta.dirname, "sandbox-runtime.ts"), path.join(hidden, "sandbox-runtime.ts"));
  return { node: process.execPath, script: path.join(hidden, "sandbox-runtime.ts"), cacheFolder };
}

test("a program out of others' reach is copied to where a stranger can run it", NOT_ROOT, async (t) => {
  const files = await hiddenProgram(t);
  const copies = await Promise.all([reachableCopy(files), reachableCopy(files)]);
  assert.deepEqual(copies[0], copies[1]);
  const { node, script } = copies[0];
  // Without a configuration it ends with 78: it ran.
  const code = await new Promise((resolve) => {
    execFile(node, [script], { ...STRANGER, env: {}, cwd: "/" }, (error) => resolve(error?.code));
  });
  assert.equal(code, 78);
});

test("copies that somebody else may have made are refused", NOT_ROOT, async (t) => {
  const files = await hiddenProgram(t);
  const { script } = await reachableCopy(files);
  const cache = path.dirname(script);
  await chmod(cache, 0o777);
  await assert.rejects(reachableCopy(files), ConfigError);
  await rm(cache, { recursive: true });
  const planted = path.join(files.cacheFolder, "planted");
  await mkdir(planted);
  await writeFile(path.join(planted, "node"), "");
  await symlink(planted, cache);
  assert.ok((await lstat(cache)).isSymbolicLink());
  await assert.rejects(reachableCopy(files), ConfigError);
});

test("a program within reach is run where it lies", NOT_ROOT, async (t) => {
  const { cacheFolder } = await hiddenProgram(t);
  assert.deepEqual(await reachableCopy({ node: "/bin/sh", script: undefined, cacheFolder }), {
    node: "/bin/sh",
    script: undefined,
  });
});
