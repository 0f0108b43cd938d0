import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createCipheriv, randomBytes } from "node:crypto";
import { once } from "node:events";
import { link, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import test, { after, before, type TestContext } from "node:test";
import { ConfigError } from "../../platform/errors.ts";
import { until } from "../../router/test-setup.ts";
import { createFileVault, openFolder } from "./file-vault.ts";
import { rotateFileKey } from "./rotate-file-key.ts";
import { seal, UNVERSIONED } from "./sealed-secret.ts";

let root: string;
before(async () => {
  root = await mkdtemp(path.join(tmpdir(), "openclaw-vault-rotation-"));
});
after(() => rm(root, { recursive: true }));

const newKey = () => randomBytes(32).toString("base64");
const newFolder = () => path.join(root, randomBytes(4).toString("hex"));
const openVault = (folder: string, key?: string) => createFileVault({ folder, key });
const rotate = (folder: string, options: { key?: string; dryRun?: boolean } = {}) =>
  rotateFileKey(
    { folder, key: options.key },
    { dryRun: options.dryRun ?? false, signal: new AbortController().signal, report: () => {} },
  );
const keyFiles = async (folder: string) => (await readdir(folder)).filter((name) => name.startsWith("key")).toSorted();

type Written = { name: string; version: string; value: string };

/** Everything that was written for sure, read by somebody who has seen nothing of it. */
async function readAll(folder: string, written: readonly Written[], key?: string): Promise<void> {
  const vault = openVault(folder, key);
  for (const { name, version, value } of written) assert.equal(await vault.getVersion(name, version), value, name);
}

async function writeSome(folder: string, key?: string): Promise<Written[]> {
  const written: Written[] = [];
  for (const name of ["a", "b", "b", "c"]) {
    const value = `value ${written.length}`;
    written.push({ name, value, version: await openVault(folder, key).set(name, value) });
  }
  return written;
}

test("after a rotation there is one key, another than before, which opens every secret and version under its old name", async () => {
  const folder = newFolder();
  const written = await writeSome(folder);
  const daemon = openVault(folder);
  assert.equal(await daemon.get("b"), "value 2");
  const { oldKeys, ...counts } = await rotate(folder);
  const wanted = { source: "folder", isResumed: false, secrets: 3, versions: 4, resealed: 4, unreadable: [] };
  assert.deepEqual([counts, oldKeys], [wanted, 0]);
  assert.deepEqual(await keyFiles(folder), ["key.2"]);
  await readAll(folder, written);
  // A process that holds the old key goes on.
  assert.deepEqual(await daemon.getNewest("b"), { value: "value 2", version: written[2]?.version });
  await daemon.set("d", "later");
  assert.equal(await openVault(folder).get("d"), "later");
});

test("a dry run counts what there is to do, and changes nothing", async () => {
  const folder = newFolder();
  await writeSome(folder);
  const before = await readFile(path.join(folder, "newest", "b"));
  const { resealed, versions, oldKeys } = await rotate(folder, { dryRun: true });
  assert.deepEqual([resealed, versions, oldKeys], [4, 4, 1]);
  assert.deepEqual(await keyFiles(folder), ["key"]);
  assert.deepEqual(await readFile(path.join(folder, "newest", "b")), before);
});

test("a writer that looked for the key before a rotation, and was held up until after it, has nothing come in", async () => {
  const folder = newFolder();
  const written = await writeSome(folder);
  const { files, keys } = openFolder({ folder, key: undefined });
  const isWritten = await files.writeVersion("a", "f".repeat(32), async () => {
    const [key] = await keys.list();
    await rotate(folder);
    return seal(key.bytes, "a", { value: "late", version: "f".repeat(32) });
  });
  assert.equal(isWritten, false);
  await readAll(folder, written);
});

/** As files were before there were versions: the newest alone, without a header. */
function sealOld(key: Buffer, name: string, value: string): Buffer {
  const iv = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, iv).setAAD(Buffer.from(name));
  const body = Buffer.concat([cipher.update(value, "utf8"), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), body]);
}

async function makeOldVault() {
  const folder = newFolder();
  const key = randomBytes(32);
  await mkdir(path.join(folder, "secrets"), { recursive: true });
  await mkdir(path.join(folder, "versions", "mid"), { recursive: true });
  await writeFile(path.join(folder, "key"), key.toString("base64"));
  for (const name of ["old", "older"]) await writeFile(path.join(folder, "secrets", name), sealOld(key, name, "kept"));
  const version = "0198".padEnd(32, "7");
  await writeFile(path.join(folder, "secrets", "mid"), seal(key, "mid", { value: "between", version }));
  await link(path.join(folder, "secrets", "mid"), path.join(folder, "versions", "mid", version));
  await writeFile(path.join(folder, "secrets", "old.0123456789ab.tmp"), "a draft that was left behind");
  return { folder, mid: { name: "mid", version, value: "between" } };
}

test("files of before there were versions are read, written over, deleted, and sealed again", async () => {
  const { folder, mid } = await makeOldVault();
  const vault = openVault(folder);
  assert.deepEqual(await vault.list(""), ["mid", "old", "older"]);
  const kept = { value: "kept", version: UNVERSIONED };
  assert.deepEqual(await vault.getNewest("old"), kept);
  assert.equal(await vault.getVersion("old", UNVERSIONED), "kept");
  await readAll(folder, [mid]);
  assert.equal((await rotate(folder)).resealed >= 3, true);
  assert.deepEqual([await readdir(path.join(folder, "secrets")), await keyFiles(folder)], [[], ["key.2"]]);
  assert.deepEqual(await openVault(folder).getNewest("old"), kept);
  assert.deepEqual(await vault.getNewest("mid"), { value: mid.value, version: mid.version });
  await vault.set("old", "new");
  await vault.delete("older");
  assert.deepEqual([await vault.get("old"), await vault.get("older")], ["new", undefined]);
  assert.deepEqual(await vault.list(""), ["mid", "old"]);
});

test("an old file gives way to what is written or deleted without any rotation", async () => {
  const { folder } = await makeOldVault();
  const vault = openVault(folder);
  await vault.set("old", "new");
  await vault.delete("older");
  assert.deepEqual([await vault.get("old"), await vault.get("older")], ["new", undefined]);
  assert.deepEqual(await vault.list("old"), ["old"]);
});

test("of several keys of the environment the first seals and all open, until all is sealed with the first", async () => {
  const folder = newFolder();
  const [old, recent] = [newKey(), newKey()];
  const written = await writeSome(folder, old);
  await readAll(folder, written, `${recent}, ${old}`);
  written.push({ name: "d", value: "x", version: await openVault(folder, `${recent},${old}`).set("d", "x") });
  const { source, resealed, oldKeys } = await rotate(folder, { key: `${recent},${old}` });
  assert.deepEqual([source, resealed, oldKeys], ["environment", 4, 1]);
  await readAll(folder, written, recent);
  await assert.rejects(openVault(folder, old).get("a"), ConfigError);
  assert.deepEqual(await keyFiles(folder), []);
});

test("what no key opens is named, and the old keys are kept until it is gone", async () => {
  const folder = newFolder();
  const [first, ...others] = await writeSome(folder);
  assert.ok(first !== undefined);
  const damaged = path.join(folder, "versions", "a", first.version);
  await writeFile(damaged, (await readFile(damaged)).subarray(0, 40));
  const { unreadable, resealed, oldKeys } = await rotate(folder);
  assert.deepEqual([unreadable, resealed, oldKeys], [["a"], 3, 1]);
  await openVault(folder).delete("a");
  const again = await rotate(folder);
  assert.deepEqual([again.isResumed, again.unreadable, again.oldKeys], [true, [], 0]);
  assert.deepEqual(await keyFiles(folder), ["key.2"]);
  await readAll(folder, others);
});

test("a vault whose key was lost says so, instead of making another", async () => {
  const folder = newFolder();
  await writeSome(folder);
  await rm(path.join(folder, "key"));
  await assert.rejects(openVault(folder).set("e", "x"), /has secrets, but no key/);
  assert.deepEqual(await keyFiles(folder), []);
});

const PROCESS = path.join(import.meta.dirname, "..", "..", "testing", "vault-process.ts");

/** A process at the vault; `lines` is what it has printed so far. */
function start(t: TestContext, ...args: string[]) {
  const child: ChildProcess = spawn(process.execPath, [PROCESS, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const lines: unknown[] = [];
  assert.ok(child.stdout !== null);
  const reader = createInterface(child.stdout).on("line", (line) => lines.push(JSON.parse(line)));
  const ended = Promise.all([once(child, "exit"), once(reader, "close")]).then(([[code]]) => code);
  return { child, lines, ended };
}

function startWriters(t: TestContext, folder: string) {
  const writers = ["one", "two", "three"].map((name) => start(t, "write", folder, `${name}-a`, `${name}-b`, "shared"));
  const written = () => writers.flatMap(({ lines }) => lines) as Written[];
  const goOn = (count: number) => {
    const from = written().length;
    return until(() => written().length >= from + count, "the writers go on");
  };
  return { writers, written, goOn };
}

test("while processes write and read, keys are changed again and again, and nothing is lost", async (t) => {
  const folder = newFolder();
  const { writers, written, goOn } = startWriters(t, folder);
  await goOn(30);
  for (let time = 0; time < 3; time += 1) {
    // Two at once do no harm.
    await Promise.all([rotate(folder), rotate(folder)]);
    await goOn(10);
  }
  for (const { child } of writers) child.kill("SIGTERM");
  assert.deepEqual(await Promise.all(writers.map(({ ended }) => ended)), [0, 0, 0]);
  await rotate(folder);
  assert.equal((await keyFiles(folder)).length, 1);
  await readAll(folder, written());
  const newest = new Map(written().map(({ name, value }) => [name, value]));
  newest.delete("shared");
  for (const [name, value] of newest) assert.equal(await openVault(folder).get(name), value);
});

test("kill -9 of rotations and of writers in the middle loses nothing, and the next rotation ends it", async (t) => {
  const folder = newFolder();
  const some = await writeSome(folder);
  for (let nth = 0; nth < 40; nth += 1) await openVault(folder).set(`filler-${nth}`, "x");
  const { writers, written, goOn } = startWriters(t, folder);
  await goOn(20);
  for (const [time, progress] of [1, 10, 40].entries()) {
    const rotation = start(t, "rotate", folder);
    await until(() => rotation.lines.length >= progress, "the rotation is under way");
    rotation.child.kill("SIGKILL");
    await rotation.ended;
    await goOn(10);
    writers[time]?.child.kill("SIGKILL");
    await writers[time]?.ended;
  }
  await rotate(folder);
  assert.equal((await keyFiles(folder)).length, 1);
  assert.deepEqual(await readdir(path.join(folder, "drafts")), []);
  await readAll(folder, [...some, ...written()]);
  for (const name of await openVault(folder).list("")) assert.ok(await openVault(folder).get(name), name);
});
