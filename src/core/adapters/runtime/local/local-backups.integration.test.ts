import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { buffer } from "node:stream/consumers";
import { test } from "node:test";
import { ConfigError, ConflictError, NotFoundError, UsageError } from "../../../platform/errors.ts";
import type { TenantId } from "../../../platform/ids.ts";
import { someTenantId, untilState } from "../contract.ts";
import type { RuntimeBackups } from "../runtime-backups.ts";
import { discard, readArchive } from "../state-archive.ts";
import type { StateManifest } from "../state-manifest.ts";
import { createLocalBackups } from "./local-backups.ts";
import { readState } from "./state-reader.ts";
import { swapPaths } from "./state-swap.ts";
import { tenantPaths } from "./tenant-folder.ts";
import { type Bench, messageUpdate, post, SENDER, setUpLocal } from "./test-setup.ts";

const isRoot = process.getuid?.() === 0;
const MIB = 1_024 ** 2;

type Stage = Bench & { backups: RuntimeBackups; tenantId: TenantId; state: string };

/** A runtime that has been up, and sleeps. */
async function setUp(t: Parameters<typeof setUpLocal>[0]): Promise<Stage> {
  const bench = await setUpLocal(t);
  const tenantId = someTenantId();
  await bench.driver.ensure(bench.spec(tenantId, 1));
  await untilState(bench.driver, tenantId, "running");
  await bench.driver.sleep(tenantId);
  return { ...bench, backups: createLocalBackups(bench), tenantId, state: tenantPaths(bench.root, tenantId).state };
}

async function exported(
  backups: RuntimeBackups,
  tenantId: TenantId,
  maxBytes = 100 * MIB,
): Promise<{ archive: Buffer; manifest: StateManifest }> {
  let archive = Buffer.alloc(0);
  const manifest = await backups.exportState(tenantId, {
    slug: "acme",
    createdAt: new Date("2026-03-01T12:00:00Z"),
    maxBytes,
    async write(bytes) {
      archive = await buffer(bytes);
    },
  });
  return { archive, manifest };
}

async function* piecesOf(archive: Buffer): AsyncGenerator<Uint8Array, void, undefined> {
  for (let start = 0; start < archive.length; start += 10_000) yield archive.subarray(start, start + 10_000);
}

/** Everything in a folder, with its kind, mode, time, owner and content. */
async function pictureOf(folder: string): Promise<Record<string, unknown>> {
  const picture: Record<string, unknown> = {};
  for (const name of await readdir(folder, { recursive: true })) {
    const file = path.join(folder, name);
    const { mode, mtimeMs, uid, size } = await lstat(file);
    const kind = mode & 0o170_000;
    if (kind === 0o120_000) picture[name] = ["link", uid, await readlink(file)];
    else if (kind === 0o040_000) picture[name] = ["folder", uid, mode & 0o777, Math.floor(mtimeMs)];
    else picture[name] = ["file", uid, mode & 0o777, Math.floor(mtimeMs), size, (await readFile(file)).toString("hex")];
  }
  return picture;
}

/** As if its runtime had written it. */
async function giveToRuntime(state: string): Promise<void> {
  if (isRoot) execFileSync("chown", ["-hR", String((await stat(state)).uid), state]);
}

test("a state goes out and comes back as it was: names, modes, times, links, empty folders", async (t) => {
  const { backups, tenantId, state } = await setUp(t);
  await mkdir(path.join(state, "workspace", "日本", "leer"), { recursive: true });
  await writeFile(path.join(state, "workspace", "MEMORY.md"), "likes tea");
  await writeFile(path.join(state, "workspace", "-rf\n*ü\\"), Buffer.alloc(700_000, 3));
  await writeFile(path.join(state, "workspace", "empty"), "");
  await writeFile(path.join(state, "run.sh"), "#!/bin/sh", { mode: 0o755 });
  await chmod(path.join(state, "run.sh"), 0o4755);
  await symlink("../MEMORY.md", path.join(state, "workspace", "日本", "link"));
  await symlink("gone", path.join(state, "dangling"));
  await chmod(path.join(state, "workspace", "日本"), 0o500);
  await utimes(path.join(state, "workspace", "MEMORY.md"), 1_700_000_000, 1_700_000_000.25);
  await giveToRuntime(state);
  const before = await pictureOf(state);

  const { archive, manifest } = await exported(backups, tenantId);
  assert.deepEqual(manifest.leftOut, []);
  assert.deepEqual([manifest.tenantId, manifest.slug, manifest.spec?.image], [tenantId, "acme", "openclaw:1"]);
  assert.deepEqual(await pictureOf(state), before, "an export leaves everything as it is");
  await rm(path.join(state, "workspace", "MEMORY.md"));
  await writeFile(path.join(state, "since.txt"), "written since");

  assert.deepEqual(await backups.importState(tenantId, piecesOf(archive)), manifest);
  assert.deepEqual(await pictureOf(state), before);
  assert.deepEqual(
    (await readdir(path.dirname(state))).filter((name) => name.startsWith("state")),
    ["state"],
  );
  await chmod(path.join(state, "workspace", "日本"), 0o700);
});

test("a database whose last pages are still in its log is restored with them", async (t) => {
  const { backups, tenantId, state } = await setUp(t);
  const file = path.join(state, "memory.sqlite");
  const database = new DatabaseSync(file);
  database.exec("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE facts (fact TEXT)");
  for (let fact = 0; fact < 500; fact += 1) database.prepare("INSERT INTO facts VALUES (?)").run(`likes tea ${fact}`);
  // As it lies when its runtime was killed.
  const { archive } = await exported(backups, tenantId);
  database.close();
  await rm(file);

  await backups.importState(tenantId, piecesOf(archive));
  assert.ok((await stat(`${file}-wal`)).size > 0);
  const restored = new DatabaseSync(file);
  assert.deepEqual({ ...restored.prepare("SELECT count(*) AS n FROM facts").get() }, { n: 500 });
  assert.deepEqual({ ...restored.prepare("PRAGMA integrity_check").get() }, { integrity_check: "ok" });
  restored.close();
});

test("what an archive can't hold is left out and named, and whether something is lost by it", async (t) => {
  const { backups, tenantId, state } = await setUp(t);
  const secret = path.join(path.dirname(path.dirname(state)), "secret-of-the-host");
  await writeFile(secret, "not for tenants", { mode: 0o600 });
  execFileSync("mkfifo", [path.join(state, "pipe")]);
  const server = createServer().listen(path.join(state, "socket"));
  t.after(() => server.close());
  await once(server, "listening");
  for (const [name, target] of [
    ["to-secret", secret],
    ["to-root", "/"],
    ["upwards", "../../.locks"],
    ["winding", "sandbox/../../x"],
  ] as const)
    await symlink(target, path.join(state, name));
  await writeFile(Buffer.concat([Buffer.from(`${state}/`), Buffer.from([0xff, 0x2e])]), "no text for a name");
  await giveToRuntime(state);
  // What a runtime could make where the system doesn't protect hard links.
  if (isRoot) await link(secret, path.join(state, "stolen"));
  else await writeFile(path.join(state, "closed"), "x", { mode: 0o000 });

  const { archive, manifest } = await exported(backups, tenantId);
  assert.deepEqual(
    manifest.leftOut.filter(({ isLoss }) => !isLoss).map(({ path: name }) => name),
    ["pipe", "socket", "to-root", "to-secret", "upwards", "winding"],
  );
  assert.deepEqual(
    manifest.leftOut.filter(({ isLoss }) => isLoss).map(({ path: name }) => name),
    [isRoot ? "stolen" : "closed", "\uFFFD."],
  );
  assert.ok(!archive.includes("not for tenants"));
});

test("a folder that its owner exchanges for a link in the middle is read as it was opened", async (t) => {
  if (process.platform !== "linux") return t.skip("there is no way to a folder but by its name here");
  const { state, root } = await setUp(t);
  const outside = path.join(root, "outside");
  await mkdir(outside);
  await mkdir(path.join(state, "docs"));
  for (const name of ["one", "two"]) {
    await writeFile(path.join(state, "docs", name), "mine");
    await writeFile(path.join(outside, name), "not for tenants");
  }
  const read: string[] = [];
  for await (const found of readState(state)) {
    if (found.kind === "folder" && found.path === "docs") {
      await rename(path.join(state, "docs"), path.join(state, "zz"));
      await symlink(outside, path.join(state, "docs"));
    }
    if (found.kind === "file" && found.path.startsWith("docs/")) read.push(await found.handle.readFile("utf8"));
  }
  assert.deepEqual(read, ["mine", "mine"]);
});

test("what changes while it is copied fails the copy, and so does what is too large, holes included", async (t) => {
  const { backups, tenantId, state } = await setUp(t);
  const file = path.join(state, "growing");
  await writeFile(file, Buffer.alloc(3 * MIB, 1));
  const isChanged = (error: unknown) => error instanceof ConflictError && error.code === "state_changed";
  const exportWhile = (change: () => Promise<void>) =>
    backups.exportState(tenantId, {
      slug: "acme",
      createdAt: new Date(0),
      maxBytes: 100 * MIB,
      async write(archive) {
        await change();
        for await (const _ of archive);
      },
    });
  await assert.rejects(
    exportWhile(() => writeFile(file, Buffer.alloc(3 * MIB, 2))),
    isChanged,
  );
  await assert.rejects(
    exportWhile(() => writeFile(file, "x", { flag: "a" })),
    isChanged,
  );
  await assert.rejects(
    exportWhile(() => writeFile(path.join(state, "new"), "x")),
    isChanged,
  );
  await assert.rejects(
    exportWhile(() => rm(file)),
    isChanged,
  );

  execFileSync("truncate", ["-s", "1T", path.join(state, "sparse")]);
  await assert.rejects(
    exported(backups, tenantId),
    (error) => error instanceof UsageError && error.code === "state_too_large" && /sparse/.test(error.message),
  );
});

test("an awake runtime is neither copied nor replaced", async (t) => {
  const { backups, tenantId, driver, state } = await setUp(t);
  const { archive } = await exported(backups, tenantId);
  await driver.wake(tenantId);
  const isAwake = (error: unknown) => error instanceof ConflictError && error.code === "runtime_awake";
  await assert.rejects(exported(backups, tenantId), isAwake);
  await assert.rejects(backups.importState(tenantId, piecesOf(archive)), isAwake);
  await untilState(driver, tenantId, "running");
  assert.deepEqual(
    (await readdir(path.dirname(state))).filter((name) => name.startsWith("state")),
    ["state"],
  );
});

test("a runtime that is woken while its state is copied comes up when that is over", async (t) => {
  const { backups, tenantId, driver, state } = await setUp(t);
  await writeFile(path.join(state, "MEMORY.md"), "likes tea");
  const order: string[] = [];
  let woken: Promise<unknown> = Promise.resolve();
  const manifest = await backups.exportState(tenantId, {
    slug: "acme",
    createdAt: new Date(0),
    maxBytes: MIB,
    async write(archive) {
      woken = driver.wake(tenantId).then(() => order.push("woken"));
      for await (const _ of archive) order.push("copied");
      assert.equal((await driver.inspect(tenantId)).state, "asleep");
    },
  });
  await woken;
  assert.deepEqual([order.at(0), order.at(-1), order.indexOf("woken")], ["copied", "woken", order.length - 1]);
  assert.equal(manifest.leftOut.length, 0);
  await untilState(driver, tenantId, "running");
});

test("a tenant that was never here, or was erased, has nothing to copy", async (t) => {
  const { backups, driver, tenantId } = await setUp(t);
  await driver.erase(tenantId);
  for (const id of [tenantId, someTenantId()]) await assert.rejects(exported(backups, id), NotFoundError);
});

test("an archive that can't be used leaves the old state as it was, and nothing beside it", async (t) => {
  const { backups, tenantId, state } = await setUp(t);
  await writeFile(path.join(state, "MEMORY.md"), Buffer.alloc(200_000, 5));
  const { archive } = await exported(backups, tenantId);
  const before = await pictureOf(state);
  const flipped = Buffer.from(archive);
  flipped.fill(9, archive.length - 100_000, archive.length - 99_990);
  for (const bad of [
    flipped,
    archive.subarray(0, archive.length - 50_000),
    archive.subarray(0, 3_000),
    Buffer.alloc(0),
  ])
    await assert.rejects(backups.importState(tenantId, piecesOf(bad)), UsageError);
  const stopped = new AbortController();
  const source = async function* () {
    for await (const piece of piecesOf(archive)) {
      yield piece;
      stopped.abort();
    }
  };
  await assert.rejects(backups.importState(tenantId, source(), stopped.signal), { name: "AbortError" });
  assert.deepEqual(await pictureOf(state), before);
  assert.deepEqual(
    (await readdir(path.dirname(state))).filter((name) => name.startsWith("state")),
    ["state"],
  );
});

test("a copy that is stopped in the middle stops, and the runtime is free again", async (t) => {
  const { backups, tenantId, state, driver } = await setUp(t);
  await writeFile(path.join(state, "large"), Buffer.alloc(20 * MIB, 1));
  const stopped = new AbortController();
  const stop = backups.exportState(tenantId, {
    slug: "acme",
    createdAt: new Date(0),
    maxBytes: 100 * MIB,
    signal: stopped.signal,
    async write(archive) {
      for await (const _ of archive) stopped.abort();
    },
  });
  await assert.rejects(stop, { name: "AbortError" });
  await driver.wake(tenantId);
  await untilState(driver, tenantId, "running");
});

test("whatever step an exchange was cut off at, the next start finds the old or the new state, whole", async (t) => {
  const { driver, tenantId, state, backups, spec } = await setUp(t);
  const { uid } = await stat(state);
  const { draft, next, previous } = swapPaths({ state });
  const version = () => readFile(path.join(state, "version"), "utf8");
  const put = async (folder: string, text: string) => {
    await mkdir(folder, { recursive: true });
    await writeFile(path.join(folder, "version"), text);
    await chown(folder, uid, uid);
  };
  const cutOff: { what: string; found: string; leave(): Promise<void> }[] = [
    { what: "while it was written", found: "old", leave: () => put(draft, "half") },
    { what: "when it counted", found: "new", leave: () => put(next, "new") },
    {
      what: "between the two",
      found: "new",
      async leave() {
        await put(next, "new");
        await rename(state, previous);
      },
    },
    {
      what: "before the old one was gone",
      found: "new",
      async leave() {
        await rename(state, previous);
        await put(state, "new");
      },
    },
  ];
  for (const { what, found, leave } of cutOff) {
    await put(state, "old");
    await leave();
    await driver.wake(tenantId);
    await untilState(driver, tenantId, "running");
    assert.equal(await version(), found, what);
    assert.deepEqual(
      (await readdir(path.dirname(state))).filter((name) => name.startsWith("state")),
      ["state"],
      what,
    );
    await driver.sleep(tenantId);

    // A removal, an export and another start after it find the same.
    await put(state, "old");
    await leave();
    await driver.remove(tenantId);
    assert.equal(await version(), found, `${what}, then removed`);
    await put(state, "old");
    await leave();
    assert.equal((await exported(backups, tenantId)).manifest.leftOut.length, 0);
    assert.equal(await version(), found, `${what}, then exported`);
    await put(state, "old");
    await leave();
    await driver.ensure(spec(tenantId, 1));
    await untilState(driver, tenantId, "running");
    assert.equal(await version(), found, `${what}, then made anew`);
    await driver.sleep(tenantId);
  }
});

test("imports that are killed again and again leave one of the two states, whole", async (t) => {
  const { root, tenantId, state, backups } = await setUp(t);
  const files = Array.from({ length: 40 }, (_, index) => path.join(state, `file-${index}`));
  const archives: string[] = [];
  for (const version of ["one", "two"]) {
    for (const file of files) await writeFile(file, version.repeat(5_000));
    const file = path.join(root, `${version}.tar`);
    await writeFile(file, (await exported(backups, tenantId)).archive);
    archives.push(file);
  }
  const program = `
    import { createReadStream } from "node:fs";
    import { createLocalBackups } from ${JSON.stringify(path.join(import.meta.dirname, "local-backups.ts"))};
    const [root, tenantId, ...archives] = process.argv.slice(1);
    console.log("begun");
    for (let turn = 0; ; turn += 1)
      await createLocalBackups({ root }).importState(tenantId, createReadStream(archives[turn % 2]));
  `;
  const kills = Number(process.env["OPENCLAW_TEST_KILLS"] ?? 8);
  for (let kill = 0; kill < kills; kill += 1) {
    const args = ["--input-type=module", "--eval", program, root, tenantId, ...archives];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout, "data");
    // Anywhere in it: how far it comes is the machine's affair.
    for (let look = 0; look < 20 + 37 * kill; look += 1) await lstat(root);
    child.kill("SIGKILL");
    await once(child, "exit");
    await exported(backups, tenantId);
    const contents = new Set(await Promise.all(files.map((file) => readFile(file, "utf8"))));
    assert.equal(contents.size, 1, "one state, not a mixture");
    assert.match([...contents][0] ?? "", /^((one){5000}|(two){5000})$/);
  }
});

test("a backup put into another tenant, which never ran, is found by its first start: what was answered is not answered again", async (t) => {
  const { driver, backups, tenantId, spec, telegram, root } = await setUp(t);
  await driver.wake(tenantId);
  const first = await untilState(driver, tenantId, "running");
  await post(first.address, messageUpdate(1, "once"));
  await telegram.waitFor((call) => call.method === "sendMessage");
  await driver.sleep(tenantId);
  const { archive } = await exported(backups, tenantId);

  const [newcomer, bystander] = [someTenantId(), someTenantId()];
  await backups.importState(newcomer, piecesOf(archive));
  await driver.ensure(spec(bystander, 1));
  await driver.ensure(spec(newcomer, 1));
  const moved = await untilState(driver, newcomer, "running");
  assert.equal((await post(moved.address, messageUpdate(1, "once"))).accepted, "durable");
  await post(moved.address, messageUpdate(2, "twice"));
  await telegram.waitFor((call) => call.method === "sendMessage" && String(call.params["text"]).includes("twice"));
  assert.equal(telegram.messages(SENDER).length, 2);
  if (!isRoot) return;
  const uids = await Promise.all(
    [tenantId, newcomer, bystander].map(async (id) => (await stat(tenantPaths(root, id).state)).uid),
  );
  assert.equal(new Set(uids).size, 3);
  assert.equal((await stat(path.join(tenantPaths(root, newcomer).state, "sandbox", "inbox.jsonl"))).uid, uids[1]);
});

test("a removed runtime's state can be copied, and the archive is one that tar reads", async (t) => {
  const { driver, backups, tenantId, state, root } = await setUp(t);
  await writeFile(path.join(state, "MEMORY.md"), "likes tea");
  await driver.remove(tenantId);
  const { archive, manifest } = await exported(backups, tenantId);
  assert.equal(manifest.spec, null);
  assert.equal((await readArchive(piecesOf(archive), discard)).files, manifest.files);
  await mkdir(path.join(root, "unpacked"));
  execFileSync("tar", ["-xf", "-", "-C", path.join(root, "unpacked")], { input: archive });
  assert.equal(await readFile(path.join(root, "unpacked", "state", "MEMORY.md"), "utf8"), "likes tea");
});

test("runtimes that another user keeps are left to that user", { skip: !isRoot }, async (t) => {
  const { backups, tenantId, root } = await setUp(t);
  await chown(root, 65_534, 65_534);
  await assert.rejects(
    exported(backups, tenantId),
    (error) => error instanceof ConfigError && /65534/.test(error.message),
  );
  await chown(root, 0, 0);
});
