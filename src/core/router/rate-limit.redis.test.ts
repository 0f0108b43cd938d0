import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import test from "node:test";
import { createLog } from "../platform/log.ts";
import { openRedis } from "../platform/redis.ts";
import { createRateLimit } from "./rate-limit.ts";

const url = process.env["OPENCLAW_TEST_REDIS_URL"] ?? "";
const lines: string[] = [];
const log = createLog("info", { write: (line) => lines.push(line) });
const at = new Date("2026-11-22T12:00:30Z");
const someChat = () => randomInt(1, 2 ** 47);

async function connected(t: test.TestContext) {
  const redis = openRedis(url, log);
  t.after(() => redis.disconnect());
  await new Promise((resolve) => redis.once("ready", resolve));
  return redis;
}

test("two daemons count a chat's updates together (F28)", async (t) => {
  const [first, second] = [await connected(t), await connected(t)].map((redis) =>
    createRateLimit({ perMinute: 3, redis }),
  );
  const chat = someChat();
  const verdicts = [];
  for (const limit of [first, second, first, second]) verdicts.push(await limit?.allow(chat, at));
  assert.deepEqual(verdicts, [true, true, true, false]);
});

test("the minute is that of acceptance, and chats don't share it", async (t) => {
  const limit = createRateLimit({ perMinute: 1, redis: await connected(t) });
  const chat = someChat();
  assert.equal(await limit.allow(chat, at), true);
  assert.equal(await limit.allow(chat, at), false);
  assert.equal(await limit.allow(chat, new Date(at.getTime() + 60_000)), true);
  assert.equal(await limit.allow(someChat(), at), true);
});

test("when Redis goes away, counting goes on in memory without an error", async (t) => {
  const redis = await connected(t);
  const limit = createRateLimit({ perMinute: 2, redis });
  const chat = someChat();
  assert.equal(await limit.allow(chat, at), true);
  redis.disconnect();
  const verdicts = [];
  for (let count = 0; count < 3; count += 1) verdicts.push(await limit.allow(chat, at));
  assert.deepEqual(verdicts, [true, true, false]);
});

test("a Redis that was never there is said once, not for every try", async (t) => {
  lines.length = 0;
  const redis = openRedis("redis://127.0.0.1:1", log);
  t.after(() => redis.disconnect());
  for (let tries = 0; tries < 3; tries += 1) await new Promise((resolve) => redis.once("reconnecting", resolve));
  assert.equal(lines.filter((line) => line.includes("can't be reached")).length, 1);
});

test("0 switches the limit off", async () => {
  const limit = createRateLimit({ perMinute: 0, redis: undefined });
  for (let count = 0; count < 100; count += 1) assert.equal(await limit.allow(1, at), true);
});

test("a Redis that hangs holds no update up: counting goes on in memory", async (t) => {
  const hanging = createServer((socket) => {
    // It answers what a client says when it connects, and no command that counts.
    socket.on("data", (data) => {
      for (const command of String(data).split(/(?=\*\d+\r\n)/)) {
        if (/info\r\n$/i.test(command)) socket.write("$0\r\n\r\n");
        else if (/client|select|hello/i.test(command)) socket.write("+OK\r\n");
      }
    });
  }).listen(0, "127.0.0.1");
  await once(hanging, "listening");
  t.after(() => hanging.close());
  const address = hanging.address();
  assert.ok(typeof address === "object" && address !== null);
  const redis = openRedis(`redis://127.0.0.1:${address.port}`, log);
  t.after(() => redis.disconnect());
  await once(redis, "ready");
  const limit = createRateLimit({ perMinute: 2, redis });
  const chat = someChat();
  const verdicts = [];
  for (let count = 0; count < 3; count += 1) verdicts.push(await limit.allow(chat, at));
  assert.deepEqual(verdicts, [true, true, false]);
});
