import assert from "node:assert/strict";
import test from "node:test";
import { createPacer, type PacedCall, type Pacer } from "./pacer.ts";
import { createMemorySlots, type SlotWish } from "./send-slots.ts";

type Limits = { sendsPerSecond?: number; chatIntervalMs?: number; maxWaitMs?: number; daemons?: number };

function open({ sendsPerSecond = 1_000, chatIntervalMs = 1, maxWaitMs = 5_000, daemons = 1 }: Limits = {}): Pacer {
  const divisor = async () => daemons;
  return createPacer({ slots: createMemorySlots(divisor), divisor, sendsPerSecond, chatIntervalMs, maxWaitMs });
}

function message(chatId: number, share: string = String(chatId)): PacedCall {
  return { chatId, share, isMessage: true };
}

/** How long after all were asked for each call was admitted. */
async function admittedAfterMs(pacer: Pacer, calls: readonly PacedCall[]): Promise<number[]> {
  const begun = performance.now();
  return Promise.all(
    calls.map(async (call) => {
      assert.deepEqual(await pacer.admit(call), { admitted: true });
      return performance.now() - begun;
    }),
  );
}

test("messages to one chat keep their distance, in their order", async () => {
  const pacer = open({ chatIntervalMs: 40 });
  const order: number[] = [];
  const started = performance.now();
  await Promise.all([1, 2, 3].map((number) => pacer.admit(message(7)).then(() => order.push(number))));
  assert.deepEqual(order, [1, 2, 3]);
  // Timers may fire up to a millisecond early.
  assert.ok(performance.now() - started >= 78);
});

test("all chats together stay within the bot's limit", async () => {
  const times = await admittedAfterMs(
    open({ sendsPerSecond: 100 }),
    Array.from({ length: 21 }, (_, chat) => message(chat)),
  );
  assert.ok(Math.max(...times) >= 195, `all were admitted within ${Math.max(...times)} ms`);
});

test("daemons without a common store keep to their part of the limits (F28)", async () => {
  const started = performance.now();
  await admittedAfterMs(open({ chatIntervalMs: 20, daemons: 3 }), [message(7), message(7)]);
  assert.ok(performance.now() - started >= 58);
});

test("a chat's thousand messages don't hold up another chat's single one", async () => {
  const pacer = open({ sendsPerSecond: 50 });
  const order: string[] = [];
  const flood = Array.from({ length: 60 }, () =>
    pacer.admit({ chatId: 1, share: "flood", isMessage: false }).then(() => order.push("flood")),
  );
  const single = pacer.admit(message(2)).then(() => order.push("single"));
  await single;
  assert.ok(order.indexOf("single") <= 3, `${order.indexOf("single")} went before`);
  await Promise.all(flood);
});

test("what would wait too long in a chat's line is told at once when to come back", async () => {
  const pacer = open({ chatIntervalMs: 1_000, maxWaitMs: 500 });
  assert.deepEqual(await pacer.admit(message(7)), { admitted: true });
  assert.deepEqual(await pacer.admit(message(7)), { admitted: false, retryAfterSeconds: 1 });
  assert.deepEqual(await pacer.admit(message(8)), { admitted: true });
});

test("when the bot's line is full, the longest share gives way", async () => {
  const pacer = open({ sendsPerSecond: 20, maxWaitMs: 500 });
  const flood = Promise.all(
    Array.from({ length: 40 }, () => pacer.admit({ chatId: 1, share: "flood", isMessage: false })),
  );
  const others = await Promise.all([2, 3, 4].map((chat) => pacer.admit(message(chat))));
  assert.deepEqual(
    others.map(({ admitted }) => admitted),
    [true, true, true],
  );
  const admissions = await flood;
  assert.ok(admissions.filter(({ admitted }) => admitted).length <= 11);
  assert.ok(pacer.state().refused >= 29);
  assert.equal(pacer.state().waiting, 0);
});

test("Telegram's retry_after holds that chat and no other", async () => {
  const pacer = open({ maxWaitMs: 500 });
  pacer.slowDown(7, 30);
  for (const isMessage of [true, false]) {
    assert.deepEqual(await pacer.admit({ ...message(7), isMessage }), { admitted: false, retryAfterSeconds: 30 });
  }
  assert.equal(await pacer.admitAction(7), false);
  assert.deepEqual(await pacer.admit(message(8)), { admitted: true });
});

test("a short retry_after is waited out", async () => {
  const pacer = open();
  pacer.slowDown(7, 0.05);
  const started = performance.now();
  assert.deepEqual(await pacer.admit(message(7)), { admitted: true });
  assert.ok(performance.now() - started >= 48);
});

test("when several chats are told to wait at once, the whole bot waits", async () => {
  const pacer = open({ maxWaitMs: 500 });
  for (const chat of [1, 2, 3]) pacer.slowDown(chat, 20);
  assert.deepEqual(await pacer.admit(message(9)), { admitted: false, retryAfterSeconds: 20 });
  assert.equal(await pacer.admitAction(9), false);
});

test("the bot is held no longer than the least patient chat asks, and never for long", async () => {
  const patient = open({ maxWaitMs: 500 });
  for (const [chat, seconds] of [
    [1, 3_600],
    [2, 20],
    [3, 40],
  ] as const)
    patient.slowDown(chat, seconds);
  assert.deepEqual(await patient.admit(message(9)), { admitted: false, retryAfterSeconds: 20 });
  const colluding = open({ maxWaitMs: 500 });
  for (const chat of [1, 2, 3]) colluding.slowDown(chat, 3_600);
  assert.deepEqual(await colluding.admit(message(9)), { admitted: false, retryAfterSeconds: 60 });
  assert.deepEqual(await colluding.admit(message(1)), { admitted: false, retryAfterSeconds: 3_600 });
});

test("chat actions take no room from messages, and are left out when there is none", async () => {
  const pacer = open({ chatIntervalMs: 60_000, maxWaitMs: 500 });
  assert.equal(await pacer.admitAction(7), true);
  assert.deepEqual(await pacer.admit(message(7)), { admitted: true });
  assert.equal(await pacer.admitAction(7), false);
  assert.equal(await pacer.admitAction(8), true);
  assert.equal(pacer.state().shed, 1);
});

test("a message whose turn it is asks for its slots once", async () => {
  let asked = 0;
  const divisor = async () => 1;
  const memory = createMemorySlots(divisor);
  const slots = {
    ...memory,
    reserve(wishes: readonly SlotWish[]) {
      asked += 1;
      return memory.reserve(wishes);
    },
  };
  const pacer = createPacer({ slots, divisor, sendsPerSecond: 100 });
  for (const chat of [1, 2]) assert.deepEqual(await pacer.admit(message(chat)), { admitted: true });
  assert.equal(asked, 2);
});

test("who goes away while waiting leaves the line", async () => {
  const pacer = open({ sendsPerSecond: 20 });
  const leaving = new AbortController();
  const calls = [1, 2, 3, 4].map((chat) => pacer.admit(message(chat), chat === 3 ? leaving.signal : undefined));
  // The first is admitted at once; the third is in the line by then.
  await calls[0];
  leaving.abort(new Error("gone"));
  const results = await Promise.allSettled(calls);
  assert.deepEqual(
    results.map(({ status }) => status),
    ["fulfilled", "fulfilled", "rejected", "fulfilled"],
  );
  assert.equal(pacer.state().waiting, 0);
});
