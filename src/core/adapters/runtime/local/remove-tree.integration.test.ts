import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { removeTree } from "./remove-tree.ts";

test("all of a folder goes, whatever is in it, and nothing that its links lead to", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-remove-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [tree, outside] = [path.join(folder, "tree"), path.join(folder, "outside")];
  await mkdir(outside);
  await writeFile(path.join(outside, "kept"), "kept");
  await mkdir(path.join(tree, "a", "closed"), { recursive: true });
  await writeFile(path.join(tree, "a", "closed", "x"), "x");
  await chmod(path.join(tree, "a", "closed"), 0o000);
  await symlink(outside, path.join(tree, "a", "link"));
  await symlink("nowhere", path.join(tree, "dangling"));
  await writeFile(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0xfe])]), "no text for a name");
  for (let file = 0; file < 500; file += 1) await writeFile(path.join(tree, `file-${file}`), "");

  await removeTree(tree);
  assert.deepEqual(await readdir(folder), ["outside"]);
  assert.equal(await readFile(path.join(outside, "kept"), "utf8"), "kept");
  await symlink(outside, tree);
  await removeTree(tree);
  assert.deepEqual(await readdir(outside), ["kept"]);
  await removeTree(tree);
  await writeFile(tree, "a file");
  await removeTree(tree);
  assert.deepEqual(await readdir(folder), ["outside"]);
});
