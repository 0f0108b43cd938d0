import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import test, { type TestContext } from "node:test";
import { createLog } from "../../platform/log.ts";
import { openRedis } from "../../platform/redis.ts";
import { openSlots } from "./shared-slots.ts";
import { createPacer } from "./pacer.ts";
import { createMemorySlots, type SendSlots, type Slots } from "./send-slots.ts";

const url = process.env["OPENCLAW_TEST_REDIS_URL"] ?? "";

async function open(
  t: TestContext,
  botId: number,
  { daemons = 1, from = url }: { daemons?: number; from?: string } = {},
) {
  const lines: string[] = [];
  const log = createLog("info", { write: (line) => lines.push(line) });
  const redis = openRedis(from, log);
  t.after(() => redis.disconnect());
  await once(redis, "ready");
  const slots = openSlots({ redis, botId, countDaemons: async () => daemons, log });
  return { redis, slots, lines };
}

async function take(slots: SendSlots, wanted: number, line = "bot"): Promise<Slots> {
  const [taken] = await slots.reserve([{ line, intervalMs: 1_000, wanted, horizonMs: 3_000, maxWaitMs: 10_000 }]);
  assert.ok(taken !== undefined);
  return taken;
}

const someBot = () => randomInt(1, 2 ** 47);

test("daemons share a bot's slots, and bots don't (F28)", async (t) => {
  const bot = someBot();
  const [first, second, other] = [await open(t, bot), await open(t, bot), await open(t, someBot())];
  assert.deepEqual(await take(first.slots, 3), { waitMs: 0, granted: 3 });
  const { waitMs, granted } = await take(second.slots, 3);
  assert.ok(waitMs > 1_000 && waitMs <= 3_000);
  assert.ok(granted >= 1 && granted <= 2);
  assert.deepEqual(await take(other.slots, 1), { waitMs: 0, granted: 1 });
  assert.ok(first.slots.isShared());
});

for (const isShared of [true, false]) {
  test(`a linked wish takes a slot only behind one that was given at once, ${isShared ? "shared" : "in memory"}`, async (t) => {
    const { slots } = isShared ? await open(t, someBot()) : { slots: createMemorySlots(async () => 1) };
    const wish = { intervalMs: 5_000, wanted: 1, horizonMs: 0, maxWaitMs: 10_000 };
    const pair = (line: string) => [
      { ...wish, line },
      { ...wish, line: "bot", isLinked: true },
    ];
    const given = await slots.reserve([...pair("chat:1"), ...pair("chat:1"), ...pair("chat:2")]);
    assert.deepEqual(
      given.map(({ granted, waitMs }) => [granted, Math.round(waitMs / 5_000)]),
      [
        [1, 0],
        [1, 0],
        [1, 1],
        [0, 0],
        [1, 0],
        [1, 1],
      ],
    );
  });
}

test("two daemons together send no faster than the bot may, and each chat no faster than it may (F28)", async (t) => {
  const bot = someBot();
  const pacers = await Promise.all(
    [1, 2].map(async () =>
      createPacer({
        slots: (await open(t, bot, { daemons: 2 })).slots,
        sendsPerSecond: 50,
        chatIntervalMs: 100,
        divisor: async () => 2,
      }),
    ),
  );
  const sent: { chatId: number; afterMs: number }[] = [];
  const begun = performance.now();
  const chats = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
  await Promise.all(
    [...chats, ...chats, ...chats].map(async (chatId, turn) => {
      const pacer = pacers[turn % 2];
      assert.ok(pacer !== undefined);
      assert.deepEqual(await pacer.admit({ chatId, share: String(chatId), isMessage: true }), { admitted: true });
      sent.push({ chatId, afterMs: performance.now() - begun });
    }),
  );
  // Timers may be up to a millisecond early. Each alone, they would be done in half of that.
  const lastAfterMs = (of: typeof sent) => Math.max(...of.map(({ afterMs }) => afterMs));
  assert.ok(lastAfterMs(sent) >= 29 * 20 - 2, `all went out within ${lastAfterMs(sent)} ms`);
  for (const chatId of chats) {
    const ofChat = sent.filter((one) => one.chatId === chatId);
    assert.ok(lastAfterMs(ofChat) >= 198, `chat ${chatId} got all within ${lastAfterMs(ofChat)} ms`);
  }
});

test("a hold that one daemon hears of holds all of them", async (t) => {
  const bot = someBot();
  const [first, second] = [await open(t, bot), await open(t, bot)];
  await first.slots.hold("bot", 20_000);
  const { waitMs, granted } = await take(second.slots, 1);
  assert.equal(granted, 0);
  assert.ok(waitMs > 15_000 && waitMs <= 20_000);
});

test("keys carry the bot's id and don't outlive their use", async (t) => {
  const bot = someBot();
  const { redis, slots } = await open(t, bot);
  await take(slots, 2, "chat:7");
  const keys = await redis.keys(`*${bot}*`);
  assert.deepEqual(keys, [`{openclaw:telegram:${bot}}:chat:7`]);
  const expiresInMs = await redis.pttl(keys[0] ?? "");
  assert.ok(expiresInMs > 0 && expiresInMs <= 2_001);
});

test("when Redis goes away, memory gives a daemon's part of the slots, holds included, and says so once", async (t) => {
  const { redis, slots, lines } = await open(t, someBot(), { daemons: 4 });
  await slots.hold("chat:8", 20_000);
  redis.disconnect();
  assert.deepEqual(await take(slots, 1), { waitMs: 0, granted: 1 });
  const { waitMs } = await take(slots, 1);
  assert.ok(waitMs > 3_000 && waitMs <= 4_000);
  assert.equal((await take(slots, 1, "chat:8")).granted, 0);
  assert.equal(slots.isShared(), false);
  assert.equal(lines.filter((line) => line.includes("paced in memory")).length, 1);
});

test("a Redis that hangs holds nobody up", async (t) => {
  const hanging = createServer((socket) => {
    // It answers what a client says when it connects, and no script.
    socket.on("data", (data) => {
      for (const command of String(data).split(/(?=\*\d+\r\n)/)) {
        if (/info\r\n$/i.test(command)) socket.write("$0\r\n\r\n");
        else if (!/eval/i.test(command)) socket.write("+OK\r\n");
      }
    });
  }).listen(0, "127.0.0.1");
  await once(hanging, "listening");
  t.after(() => hanging.close());
  const address = hanging.address();
  assert.ok(typeof address === "object" && address !== null);
  const { slots, redis } = await open(t, someBot(), { from: `redis://127.0.0.1:${address.port}` });
  assert.equal(redis.status, "ready");
  assert.deepEqual(await take(slots, 1), { waitMs: 0, granted: 1 });
  assert.equal(slots.isShared(), false);
});

test("without Redis, several daemons are warned about once", async () => {
  const lines: string[] = [];
  const log = createLog("info", { write: (line) => lines.push(line) });
  const slots = openSlots({ redis: undefined, botId: 1, countDaemons: async () => 2, log });
  for (let tries = 0; tries < 3; tries += 1) await take(slots, 1);
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? "", /REDIS_URL/);
});
