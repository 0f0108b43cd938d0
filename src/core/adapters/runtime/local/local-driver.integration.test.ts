import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { ConfigError } from "../../../platform/errors.ts";
import { runtimeDriverContract, someTenantId, until, untilState } from "../contract.ts";
import { runtimeLogPath } from "./local-driver.ts";
import {
  BOT_TOKEN,
  environmentOf,
  messageUpdate,
  onlyProcessOf,
  post,
  processesOf,
  SENDER,
  setUpLocal,
  WEBHOOK_SECRET,
} from "./test-setup.ts";

runtimeDriverContract("local", async (t) => {
  const bench = await setUpLocal(t);
  return {
    ...bench,
    another: () => bench.another(),
    image: () => "bundled sandbox runtime",
    running: async (tenantId) => (await processesOf(bench.root, tenantId)).length,
  };
});

test("a runtime that died is started again, on the same ports (F47)", async (t) => {
  const { driver, spec, root } = await setUpLocal(t);
  const tenantId = someTenantId();
  await driver.ensure(spec(tenantId, 1));
  const before = await untilState(driver, tenantId, "running");
  const pid = await onlyProcessOf(root, tenantId);
  process.kill(pid, "SIGKILL");
  await until(
    async () => ((await processesOf(root, tenantId)).some((other) => other !== pid) ? true : undefined),
    "another process",
  );
  assert.deepEqual(await untilState(driver, tenantId, "running"), before);
});

test("a runtime whose driver is gone is supervised by another one, and started once by two (F47)", async (t) => {
  const { driver, another, spec, root } = await setUpLocal(t);
  const tenantId = someTenantId();
  await driver.ensure(spec(tenantId, 1));
  await untilState(driver, tenantId, "running");
  await driver.close();
  await another();
  const next = await another();
  const pid = await onlyProcessOf(root, tenantId);
  process.kill(pid, "SIGKILL");
  await until(
    async () => ((await processesOf(root, tenantId)).some((other) => other !== pid) ? true : undefined),
    "another process",
  );
  await untilState(next, tenantId, "running");
  await onlyProcessOf(root, tenantId);
});

test("a configuration that can't work is a failure with its reason, mended by another spec (F51)", async (t) => {
  const { driver, spec } = await setUpLocal(t);
  const tenantId = someTenantId();
  const broken = spec(tenantId, 1, { config: { channels: { telegram: { botToken: "${NOBODY_SET_THIS}" } } } });
  await driver.ensure(broken);
  const failed = await untilState(driver, tenantId, "failed");
  assert.match(failed.reason ?? "", /exited with code 78/);
  assert.equal((await driver.ensure(broken)).state, "failed");
  await driver.ensure(spec(tenantId, 2));
  await untilState(driver, tenantId, "running");
});

test("a secret that the vault lacks is an error, and what runs goes on (F95)", async (t) => {
  const { driver, spec, secrets, root } = await setUpLocal(t);
  const [fresh, running] = [someTenantId(), someTenantId()];
  await driver.ensure(spec(running, 1));
  await untilState(driver, running, "running");
  const pid = await onlyProcessOf(root, running);
  delete secrets["model-key"];
  await assert.rejects(
    driver.ensure(spec(fresh, 1)),
    (error) => error instanceof ConfigError && /model-key/.test(error.message),
  );
  assert.equal((await driver.inspect(fresh)).state, "absent");
  await assert.rejects(driver.ensure(spec(running, 2)), ConfigError);
  assert.equal(await onlyProcessOf(root, running), pid);
  assert.equal((await driver.inspect(running)).specHash, spec(running, 1).hash);
  secrets["model-key"] = "";
  await assert.rejects(driver.ensure(spec(fresh, 1)), ConfigError);
});

test("a runtime sees its own environment only, and no file holds a secret (F5, F78)", async (t) => {
  const { driver, spec, root } = await setUpLocal(t);
  const tenantId = someTenantId();
  await driver.ensure(spec(tenantId, 1));
  await untilState(driver, tenantId, "running");
  const pid = await onlyProcessOf(root, tenantId);
  const env = await environmentOf(pid);
  assert.equal(env["TELEGRAM_BOT_TOKEN"], BOT_TOKEN);
  assert.equal(env["TZ"], "Europe/Berlin");
  const ours = Object.keys(process.env).filter((name) => name in env && env[name] === process.env[name]);
  assert.deepEqual(
    ours.filter((name) => !["LANG", "TZ", "PATH", "PWD", "SHLVL", "_"].includes(name)),
    [],
  );
  assert.doesNotMatch(await readFile(`/proc/${pid}/cmdline`, "utf8"), /AAtenantown|secret-of/);
  for (const file of ["runtime.json", "process.json", "openclaw.json", "logs/runtime.log"]) {
    const text = await readFile(path.join(root, tenantId, file), "utf8");
    assert.ok(!text.includes(BOT_TOKEN) && !text.includes(WEBHOOK_SECRET), file);
  }
});

test("a removed runtime leaves its state and nothing else, and its tenant finds it again under its own user (F68)", async (t) => {
  const { driver, spec, root } = await setUpLocal(t);
  const [returning, newcomer] = [someTenantId(), someTenantId()];
  const folder = path.join(root, returning);
  await driver.ensure(spec(returning, 1));
  await untilState(driver, returning, "running");
  const memory = path.join(folder, "state", "memory.md");
  await writeFile(memory, "likes tea");
  const owner = (await stat(path.join(folder, "state"))).uid;

  await driver.remove(returning);
  assert.deepEqual(await readdir(folder), ["state"]);
  assert.equal((await driver.inspect(returning)).state, "absent");
  assert.deepEqual(await driver.list(), []);

  await driver.ensure(spec(newcomer, 1));
  await driver.ensure(spec(returning, 2));
  await untilState(driver, returning, "running");
  assert.equal(await readFile(memory, "utf8"), "likes tea");
  assert.equal((await stat(path.join(folder, "home"))).uid, owner);
  if (process.getuid?.() === 0) assert.notEqual((await stat(path.join(root, newcomer, "home"))).uid, owner);
});

test("an erased runtime leaves no folder, whether it ran or was removed before", async (t) => {
  const { driver, spec, root } = await setUpLocal(t);
  const [removed, awake] = [someTenantId(), someTenantId()];
  for (const tenantId of [removed, awake]) {
    await driver.ensure(spec(tenantId, 1));
    await untilState(driver, tenantId, "running");
    await writeFile(path.join(root, tenantId, "state", "memory.md"), "likes tea");
  }
  await driver.remove(removed);
  for (const tenantId of [removed, awake]) {
    await driver.erase(tenantId);
    await assert.rejects(readdir(path.join(root, tenantId)), { code: "ENOENT" });
  }
});

test("a spec that is refused leaves the state of an earlier runtime alone (F68)", async (t) => {
  const { driver, spec, secrets, root } = await setUpLocal(t);
  const tenantId = someTenantId();
  await driver.ensure(spec(tenantId, 1));
  const memory = path.join(root, tenantId, "state", "memory.md");
  await writeFile(memory, "likes tea");
  await driver.remove(tenantId);
  delete secrets["model-key"];
  await assert.rejects(driver.ensure(spec(tenantId, 2)), ConfigError);
  assert.equal((await driver.inspect(tenantId)).state, "absent");
  assert.equal(await readFile(memory, "utf8"), "likes tea");
});

test("the configuration on disk is the spec's, moved to loopback, and the one before is kept (F41)", async (t) => {
  const { driver, spec, root } = await setUpLocal(t);
  const tenantId = someTenantId();
  await driver.ensure(spec(tenantId, 1, { env: { TZ: "UTC" } }));
  const { address } = await untilState(driver, tenantId, "running");
  const first = await readFile(path.join(root, tenantId, "openclaw.json"), "utf8");
  const config = JSON.parse(first);
  assert.equal(config.gateway.bind, "loopback");
  assert.equal(`http://${config.channels.telegram.webhookHost}:${config.channels.telegram.webhookPort}`, address);
  assert.equal(config.agents.defaults.workspace, path.join(root, tenantId, "state", "workspace"));
  assert.equal(config.channels.telegram.botToken, "${TELEGRAM_BOT_TOKEN}");
  await driver.ensure(spec(tenantId, 2, { config: { ...spec(tenantId, 1).config, messages: {} } }));
  await untilState(driver, tenantId, "running");
  assert.equal(await readFile(path.join(root, tenantId, "openclaw.json.last-good"), "utf8"), first);
  assert.match(await readFile(runtimeLogPath(root, tenantId), "utf8"), /not a real OpenClaw/);
});

test(
  "under root every runtime has a user of its own, which can't change what we act on",
  { skip: process.getuid?.() !== 0 },
  async (t) => {
    const { driver, spec, root } = await setUpLocal(t);
    const tenants = [someTenantId(), someTenantId()];
    const uids = new Set<number>();
    for (const tenantId of tenants) {
      await driver.ensure(spec(tenantId, 1));
      await untilState(driver, tenantId, "running");
      const { uid } = await stat(`/proc/${await onlyProcessOf(root, tenantId)}`);
      assert.ok(uid >= 61_000 && uid !== 65_534);
      uids.add(uid);
      const folder = path.join(root, tenantId);
      assert.equal((await stat(folder)).uid, 0);
      assert.equal((await stat(folder)).mode & 0o7777, 0o710);
      assert.equal((await stat(path.join(folder, "runtime.json"))).mode & 0o777, 0o600);
      const state = await stat(path.join(folder, "state"));
      assert.deepEqual([state.uid, state.mode & 0o777], [uid, 0o700]);
    }
    assert.equal(uids.size, 2);
  },
);

test("what a runtime accepted before it was put to sleep is known to it after waking", async (t) => {
  const { driver, spec, telegram } = await setUpLocal(t);
  const tenantId = someTenantId();
  await driver.ensure(spec(tenantId, 1));
  const before = await untilState(driver, tenantId, "running");
  await post(before.address, messageUpdate(1, "once"));
  await telegram.waitFor((call) => call.method === "sendMessage");
  await driver.sleep(tenantId);
  await driver.wake(tenantId);
  const after = await untilState(driver, tenantId, "running");
  assert.deepEqual(await post(after.address, messageUpdate(1, "once")), { status: 200, accepted: "durable", text: "" });
  await post(after.address, messageUpdate(2, "twice"));
  await telegram.waitFor((call) => call.method === "sendMessage" && String(call.params["text"]).includes("twice"));
  assert.equal(telegram.messages(SENDER).length, 2);
});

test("runtimes survive the kill of the process that started them, and are adopted (F48)", async (t) => {
  const { driver, spec, root, secrets } = await setUpLocal(t);
  const tenantId = someTenantId();
  const program = `
    import { createLocalDriver } from ${JSON.stringify(path.join(import.meta.dirname, "local-driver.ts"))};
    const [root, spec, secrets] = JSON.parse(process.argv[1]);
    const log = { info() {}, warn() {}, error: console.error };
    const driver = createLocalDriver({ root, binary: undefined, vault: { get: async (name) => secrets[name] }, log });
    await driver.ensure(spec);
    console.log("made");
    setInterval(() => {}, 1000);
  `;
  const args = ["--input-type=module", "--eval", program, JSON.stringify([root, spec(tenantId, 1), secrets])];
  const starter = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  await once(starter.stdout, "data");
  starter.kill("SIGKILL");
  await once(starter, "exit");
  await untilState(driver, tenantId, "running");
  const pid = await onlyProcessOf(root, tenantId);
  await driver.ensure(spec(tenantId, 1));
  assert.equal(await onlyProcessOf(root, tenantId), pid);
});

test("a configuration that the real binary warns about is refused and never applied (F41)", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-bin-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const binary = path.join(folder, "openclaw.mjs");
  await writeFile(binary, standIn, { mode: 0o644 });
  await chmod(folder, 0o755);
  const { driver, spec, root } = await setUpLocal(t, { binary });
  const tenantId = someTenantId();
  await driver.ensure(spec(tenantId, 1));
  await untilState(driver, tenantId, "running");
  const pid = await onlyProcessOf(root, tenantId);
  const before = await readFile(path.join(root, tenantId, "openclaw.json"), "utf8");
  const warned = spec(tenantId, 2, { config: { ...spec(tenantId, 1).config, unknownKey: true } });
  await assert.rejects(
    driver.ensure(warned),
    (error) => error instanceof ConfigError && /unknownKey: is not known/.test(error.message),
  );
  assert.equal(await onlyProcessOf(root, tenantId), pid);
  assert.equal(await readFile(path.join(root, tenantId, "openclaw.json"), "utf8"), before);
});

test("a binary that is not there is named", async (t) => {
  const { driver, spec } = await setUpLocal(t, { binary: "/nonexistent/openclaw.mjs" });
  await assert.rejects(
    driver.ensure(spec(someTenantId(), 1)),
    (error) => error instanceof ConfigError && /OPENCLAW_RUNTIME_BIN/.test(error.message),
  );
});

/** Answers the two command lines that are used of the real program. */
const standIn = `
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
const config = JSON.parse(readFileSync(process.env.OPENCLAW_CONFIG_PATH, "utf8"));
if (process.argv[2] === "config") {
  const warnings = "unknownKey" in config ? [{ path: "unknownKey", message: "is not known" }] : [];
  console.log(JSON.stringify({ valid: true, path: "", warnings }));
} else {
  createServer((request, response) => response.end("ok")).listen(config.channels.telegram.webhookPort, "127.0.0.1");
}
`;
