import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createPacer } from "../src/core/adapters/telegram/pacer.ts";
import { createMemorySlots } from "../src/core/adapters/telegram/send-slots.ts";
import { tenantSecretName, tenantSecretPrefix } from "../src/core/adapters/vault/vault.ts";
import { loadConfig } from "../src/core/platform/config.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { createLog } from "../src/core/platform/log.ts";
import { runDaemon } from "../src/daemon/daemon.ts";
import { ROLES } from "../src/daemon/parts.ts";
import { documentOf, expectCode } from "./command.ts";
import { call } from "./daemon-process.ts";
import { openKeyStage, sendUpdate, until } from "./key-rotation-stage.ts";

const MIN_UPDATES = 200;
const CHAT = 111_222_333;
const OTHER_CHAT = 444_555_666;
const INTERVAL_MS = 100;

type Stage = Awaited<ReturnType<typeof openKeyStage>>;

/** A whole daemon in this process, at a pace at which Telegram's limits don't limit what is looked at. */
async function runQuickDaemon({ env, gate }: Stage) {
  const { config, secrets } = loadConfig(env);
  const stopping = new AbortController();
  const addresses = Promise.withResolvers<{ publicAddress: string; internalAddress: string }>();
  const log = createLog("info", {
    write(line) {
      const entry = JSON.parse(line);
      if (entry.msg === "ready") addresses.resolve(entry);
    },
  });
  const pacer = createPacer({
    slots: createMemorySlots(async () => 1),
    sendsPerSecond: 1e6,
    chatIntervalMs: 0.001,
    divisor: async () => 1,
  });
  const ended = runDaemon({ config, secrets, log, pacer, roles: ROLES }, stopping.signal);
  const { publicAddress, internalAddress } = await addresses.promise;
  gate.state.target = internalAddress;
  const stop = async () => {
    stopping.abort();
    await ended;
  };
  return { publicUrl: publicAddress, internalUrl: internalAddress, stop };
}

/** As a runtime would come in. */
async function statusOf(internalUrl: string, id: TenantId, keys: { "telegram-token": string; "model-key": string }) {
  const base = `${internalUrl}/runtime/${id}`;
  const telegram = await call(`${base}/telegram/bot${keys["telegram-token"]}/getMe`);
  const model = await call(`${base}/model/v1/messages`, {
    method: "POST",
    headers: { "x-api-key": keys["model-key"], "content-type": "application/json" },
    body: JSON.stringify({ model: "claude-haiku-4-5", max_tokens: 10, messages: [{ role: "user", content: "hi" }] }),
  });
  return [telegram.status, model.status];
}

async function webhookStatus(address: string, secret: string): Promise<number> {
  const headers = { "x-telegram-bot-api-secret-token": secret, "content-type": "application/json" };
  // Another kind of update than any that gets an answer.
  const body = JSON.stringify({ update_id: 9_999, poll: {} });
  return (await call(`${address}/telegram-webhook`, { method: "POST", headers, body })).status;
}

test("rotating twice under a stream of updates loses none, answers each once and in order, and refuses no call (F93, F98)", async (t) => {
  const stage = await openKeyStage(t);
  const { openclaw, telegram, vault, gate, database } = stage;
  const daemon = await runQuickDaemon(stage);
  t.after(async () => {
    await daemon.stop();
    await stage.close();
  });
  const alice = await stage.newTenant("alice", CHAT);
  const bob = await stage.newTenant("bob", OTHER_CHAT);
  const bobs = await stage.keysOf(bob);
  const generations = [await stage.keysOf(alice)];

  let sent = 0;
  const rotated = new AbortController();
  async function stream(): Promise<void> {
    while (sent < MIN_UPDATES || !rotated.signal.aborted) {
      await sendUpdate(daemon.publicUrl, CHAT, ++sent, `m-${sent}`);
      await delay(INTERVAL_MS);
    }
  }
  async function rotateTwice(): Promise<void> {
    for (const generation of [2, 3]) {
      const waited = openclaw("tenant", "rotate-keys", "alice", "--reason", "test", "--wait", "--json");
      await until(async () => (await stage.phase(alice)) === "overlapping", "the runtime has the new keys");
      const keys = await stage.keysOf(alice);
      for (const each of [generations.at(-1), keys]) {
        assert.ok(each !== undefined);
        assert.deepEqual(await statusOf(daemon.internalUrl, alice, each), [200, 200]);
      }
      generations.push(keys);
      expectCode(await openclaw("tenant", "rotate-keys", "alice"), 5);
      await stage.endOverlap(alice);
      const { items } = documentOf(expectCode(await waited, 0)) as { items: unknown[] };
      const item = { tenantId: alice, tenant: "alice", result: "rotated", generation, code: null, reason: null };
      assert.deepEqual(items, [item]);
      assert.equal((await stage.show("alice")).keys.generation, generation);
    }
    rotated.abort();
  }
  await Promise.all([stream(), rotateTwice()]);
  await until(() => telegram.messages(CHAT).length >= sent, "every update is answered");

  const answers = telegram.messages(CHAT).map(({ text }) => /You said: (m-\d+)/.exec(text ?? "")?.[1]);
  assert.deepEqual(
    answers,
    Array.from({ length: sent }, (_, index) => `m-${index + 1}`),
  );
  const { rows } = await database.pool.query(
    "SELECT outcome, count(*)::integer AS count FROM telegram_updates GROUP BY outcome",
  );
  assert.deepEqual(rows, [{ outcome: "delivered", count: sent }]);
  assert.deepEqual(
    gate.calls.filter(({ status }) => status === 401),
    [],
  );
  for (const keys of generations) {
    assert.ok(
      gate.calls.some(({ credential }) => credential === keys["telegram-token"]),
      "each generation was in use",
    );
    assert.ok(
      gate.calls.some(({ credential }) => credential === keys["model-key"]),
      "each generation was in use",
    );
  }

  const { runtime } = await stage.show("alice");
  const last = generations.at(-1);
  assert.ok(last !== undefined);
  // What a gateway looked up before the minute was cut short, it goes by for some seconds.
  const refuses = async (keys: (typeof generations)[number]) =>
    (await statusOf(daemon.internalUrl, alice, keys)).every((status) => status === 401);
  for (const keys of generations.slice(0, -1)) await until(() => refuses(keys), "the old keys are refused");
  for (const keys of generations) {
    const status: number = keys === last ? 200 : 401;
    assert.deepEqual(await statusOf(daemon.internalUrl, alice, keys), [status, status]);
    assert.equal(await webhookStatus(runtime.address, keys["webhook-secret"]), status);
    assert.deepEqual(await statusOf(daemon.internalUrl, bob, keys), [401, 401]);
  }
  assert.deepEqual(await statusOf(daemon.internalUrl, alice, bobs), [401, 401]);
  assert.deepEqual(await stage.keysOf(bob), bobs);
  const left = await vault.list(tenantSecretPrefix(alice));
  assert.ok(left.length === 4 && left.every((name) => name.endsWith("-g3")), left.join());
});

test("kill -9 of the daemon at any phase of a rotation: it goes on, nothing is lost, and the old keys are gone in the end", async (t) => {
  const stage = await openKeyStage(t);
  t.after(() => stage.close());
  const { telegram, gate, openclaw, start } = stage;
  let daemon = await start();
  const alice = await stage.newTenant("alice", CHAT);
  const first = await stage.keysOf(alice);
  let sent = 0;
  const send = () => sendUpdate(daemon.publicUrl, CHAT, ++sent, `m-${sent}`);
  await send();
  expectCode(await openclaw("tenant", "rotate-keys", "alice"), 0);
  for (const phase of ["spreading", "switching", "overlapping"]) {
    await until(async () => (await stage.phase(alice)) === phase, `it is ${phase}`);
    await send();
    daemon.child.kill("SIGKILL");
    await daemon.exit;
    daemon = await start();
    await send();
  }
  await stage.endOverlap(alice);
  daemon.child.kill("SIGKILL");
  await daemon.exit;
  daemon = await start();
  await until(async () => (await stage.phase(alice)) === "none", "the rotation ends");
  await send();
  await until(() => telegram.messages(CHAT).some(({ text }) => text?.includes(`m-${sent}`)), "all is answered");
  const answers = telegram.messages(CHAT).map(({ text = "" }) => /You said: (m-\d+)/.exec(text)?.[1] ?? text);
  // An answer whose own answer was lost with the daemon may have been given twice,
  const distinct = answers.filter((answer, index) => answer !== answers[index - 1]);
  assert.equal(distinct.length, sent, distinct.join(", "));
  // and who asks for a model while there is no daemon says so.
  for (const [index, answer] of distinct.entries())
    assert.ok(answer === `m-${index + 1}` || answer.startsWith("The model could not be reached."), answer);
  assert.deepEqual(
    gate.calls.filter(({ status }) => status === 401),
    [],
  );
  const { keys } = await stage.show("alice");
  assert.deepEqual([keys.generation, keys.rotation], [2, null]);
  assert.deepEqual(await statusOf(daemon.internalUrl, alice, first), [401, 401]);
  assert.deepEqual(await statusOf(daemon.internalUrl, alice, await stage.keysOf(alice)), [200, 200]);
  assert.equal((await stage.vault.list(tenantSecretPrefix(alice))).length, 4);
});

test("a runtime that has another webhook secret than the vault is started anew and gets its updates", async (t) => {
  const stage = await openKeyStage(t);
  t.after(() => stage.close());
  const { database, telegram, vault, start } = stage;
  const before = await start();
  const alice = await stage.newTenant("alice", CHAT);
  before.child.kill("SIGTERM");
  await before.exit;
  await vault.set(tenantSecretName(alice, "webhook-secret", 1), "changed-behind-our-back");
  // It has been up for longer than it is given after a start.
  await database.pool.query("UPDATE runtimes SET healthy_at = healthy_at - interval '1 hour'");
  const daemon = await start();
  await sendUpdate(daemon.publicUrl, CHAT, 1, "m-1");
  await daemon.saw("the runtime has another webhook secret than the vault");
  await until(() => telegram.messages(CHAT).length > 0, "it is answered");
  const { runtime } = await stage.show("alice");
  assert.equal(await webhookStatus(runtime.address, "changed-behind-our-back"), 200);
  assert.deepEqual(
    telegram.messages(CHAT).map(({ text }) => text?.includes("You said: m-1")),
    [true],
  );
});
