import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { reachableDataDir } from "./data-dir.ts";

const isRoot = process.getuid?.() === 0;

async function someFolder(t: test.TestContext, mode: number): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-data-dir-"));
  t.after(() => rm(folder, { recursive: true }));
  await chmod(folder, mode);
  return folder;
}

test("a folder that everybody can reach is used as it is", async (t) => {
  const wanted = path.join(await someFolder(t, 0o755), "not", "there", "yet");
  assert.equal(await reachableDataDir(wanted), wanted);
});

test("root's data goes below /var/lib/openclaw when its folder is closed to others, always to the same place", async (t) => {
  const wanted = path.join(await someFolder(t, 0o700), ".openclaw");
  const found = await reachableDataDir(wanted);
  assert.match(found, isRoot ? /^\/var\/lib\/openclaw\/[0-9a-f]{12}$/ : new RegExp(`^${wanted}$`));
  assert.equal(await reachableDataDir(wanted), found);
  assert.equal(await reachableDataDir(found), found);
});

test("a database that lies in the folder already stays there", async (t) => {
  const wanted = path.join(await someFolder(t, 0o700), ".openclaw");
  await mkdir(path.join(wanted, "postgres"), { recursive: true });
  assert.equal(await reachableDataDir(wanted), wanted);
});
