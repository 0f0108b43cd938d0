import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test from "node:test";
import type { DaemonId } from "../platform/ids.ts";
import { finishUpdates, insertUpdates } from "./inbox.ts";
import { createAcceptor } from "./router.ts";
import { accept, answerWith, BOT_ID, message, setUp, startRuntime, until } from "./test-setup.ts";
import { laneOf, parseUpdate, readFacts, shardOf } from "./update.ts";

test("updates reach their runtime as they came, in order and one at a time, with that tenant's secret (F3, F14, F19)", async (t) => {
  const ctx = await setUp(t);
  const { acceptor } = await ctx.route();
  const runtimes = await Promise.all([startRuntime(t), startRuntime(t)]);
  let underWay = 0;
  for (const [index, runtime] of runtimes.entries()) {
    await ctx.addTenant(index + 1, runtime.url);
    let ofRuntime = 0;
    runtime.state.answer = async (arrival, response) => {
      ofRuntime += 1;
      underWay += 1;
      assert.equal(ofRuntime, 1, "two of one chat at once");
      await new Promise((resolve) => setImmediate(resolve));
      ofRuntime -= 1;
      underWay -= 1;
      await accept(arrival, response);
    };
  }
  const photo = message(1, 1, { text: undefined, photo: [{ file_id: "photo-1" }], caption: "ü  spaces" });
  await acceptor.accept(photo);
  for (let id = 2; id <= 40; id += 1) await acceptor.accept(message(id, 1 + (id % 2)));
  await until(
    async () => Object.values(await ctx.outcomes()).every((outcome) => outcome === "delivered"),
    "all arrive",
  );
  const [first, second] = runtimes;
  assert.deepEqual(first?.ids(), [1, ...Array.from({ length: 19 }, (_, index) => index * 2 + 2), 40]);
  assert.equal(second?.entries.length, 19);
  assert.deepEqual(first?.entries[0]?.body, photo);
  assert.deepEqual(new Set(second?.entries.map((arrival) => arrival.secret)), new Set(["secret-of-2"]));
  assert.equal(underWay, 0);
});

test("an update that another daemon accepted before comes first, though nobody gave a hint of it", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  await ctx.addTenant(7, runtime.url);
  const { acceptor } = await ctx.route();
  const body = message(1, 7);
  const lane = laneOf(readFacts(parseUpdate(body)));
  const items = [{ updateId: 1, lane, shard: shardOf(lane), body }];
  await insertUpdates(ctx.pool, { botId: BOT_ID, acceptedAt: ctx.clock.now(), items, hint: [] }, "skip");
  await acceptor.accept(message(2, 7));
  await ctx.untilOutcome(2, "delivered");
  assert.deepEqual(runtime.ids(), [1, 2]);
});

test("what a daemon without workers accepts is delivered by another", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  await ctx.addTenant(7, runtime.url);
  await ctx.route();
  const elsewhere = createAcceptor({ ...ctx, botId: BOT_ID }, undefined);
  for (let id = 1; id <= 5; id += 1) await elsewhere.accept(message(id, 7));
  await ctx.untilOutcome(5, "delivered");
  assert.deepEqual(runtime.ids(), [1, 2, 3, 4, 5]);
});

test("a chat with more than memory holds is worked off in order once its runtime is up (F10)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = answerWith(503);
  await ctx.addTenant(7, runtime.url);
  const { acceptor, router } = await ctx.route();
  const all = Array.from({ length: 250 }, (_, index) => index + 1);
  for (const id of all) await acceptor.accept(message(id, 7));
  await runtime.waitFor(() => true);
  assert.equal(router.lanes.depth().updates, 100);
  runtime.state.answer = accept;
  await ctx.untilOutcome(250, "delivered");
  assert.deepEqual([...new Set(runtime.ids())], all);
});

test("two daemons share the shards evenly, and one that stops hands its own over at once", async (t) => {
  const ctx = await setUp(t);
  const runtimes = await Promise.all([startRuntime(t), startRuntime(t)]);
  for (const [index, runtime] of runtimes.entries()) await ctx.addTenant(index + 1, runtime.url);
  const first = await ctx.route();
  assert.equal(first.router.lanes.held().length, 64);
  const second = await ctx.route();
  await until(() => second.router.lanes.held().length === 32 && first.router.lanes.held().length === 32, "they share");
  for (let id = 1; id <= 20; id += 1) await first.acceptor.accept(message(id, 1 + (id % 2)));
  await first.router.stop();
  const { rows } = await ctx.pool.query("SELECT FROM router_shards WHERE owner = $1", [first.daemonId]);
  assert.equal(rows.length, 0);
  await ctx.pool.query("DELETE FROM daemons WHERE id = $1", [first.daemonId]);
  await until(() => second.router.lanes.held().length === 64, "the second holds everything");
  for (let id = 21; id <= 40; id += 1) await second.acceptor.accept(message(id, 1 + (id % 2)));
  await until(
    async () => Object.values(await ctx.outcomes()).every((outcome) => outcome === "delivered"),
    "all arrive",
  );
  const odd = Array.from({ length: 20 }, (_, index) => 2 * index + 1);
  assert.deepEqual(runtimes[1]?.ids(), odd);
});

test("a daemon that stops gives shards back one by one, and keeps that of a slow runtime until it has answered (F12)", async (t) => {
  const ctx = await setUp(t);
  const answer = Promise.withResolvers<void>();
  const [slow, quick] = [await startRuntime(t), await startRuntime(t)];
  slow.state.answer = async (arrival, response) => {
    await answer.promise;
    await accept(arrival, response);
  };
  await ctx.addTenant(1, slow.url);
  await ctx.addTenant(2, quick.url);
  const first = await ctx.route();
  await first.acceptor.accept(message(1, 1));
  await slow.waitFor(() => true);
  const second = await ctx.route();
  const stopped = first.router.stop();
  const ownersOf = async () => {
    await ctx.beat(second.daemonId);
    const { rows } = await ctx.pool.query("SELECT owner, expires_at > now() AS live FROM router_shards");
    return Map.groupBy(rows, (row) => row.owner);
  };
  await ctx.pool.query("DELETE FROM daemons WHERE id = $1", [first.daemonId]);
  await until(async () => (await ownsOf(second.daemonId)) === 63, "all but one have changed hands");
  await second.acceptor.accept(message(2, 2));
  await ctx.untilOutcome(2, "delivered");
  // Longer than a lease lasts without renewal.
  const begun = performance.now();
  await until(async () => {
    assert.deepEqual(
      (await ownersOf()).get(first.daemonId)?.map((row) => row.live),
      [true],
    );
    return performance.now() - begun > 6_500;
  }, "a lease would have ended");
  answer.resolve();
  await stopped;
  await ctx.untilOutcome(1, "delivered");
  await until(async () => (await ownsOf(second.daemonId)) === 64, "the last one has changed hands");
  assert.deepEqual(slow.ids(), [1]);

  async function ownsOf(id: string): Promise<number> {
    return (await ownersOf()).get(id)?.length ?? 0;
  }
});

test("a runtime that hangs costs its daemon no other shard when they are shared out anew", async (t) => {
  const ctx = await setUp(t);
  const held = Promise.withResolvers<void>();
  const { router, acceptor, daemonId } = await ctx.route();
  for (let chat = 1; chat <= 48; chat += 1) {
    const hanging = await startRuntime(t);
    hanging.state.answer = async (arrival, response) => {
      await held.promise;
      await accept(arrival, response);
    };
    await ctx.addTenant(chat, hanging.url);
    await acceptor.accept(message(chat, chat));
    await hanging.waitFor(() => true);
  }
  const other = randomUUID() as DaemonId;
  // Longer than a lease lasts without renewal.
  const rounds =
    "SELECT count(*)::integer AS held, min(expires_at) > now() AS live FROM router_shards WHERE owner IS NOT NULL";
  const begun = performance.now();
  await until(async () => {
    await Promise.all([ctx.beat(daemonId), ctx.beat(other)]);
    const { rows } = await ctx.pool.query(rounds);
    assert.deepEqual([rows[0]?.live], [true]);
    return performance.now() - begun > 7_000;
  }, "a lease would have ended");
  held.resolve();
  await until(async () => {
    await Promise.all([ctx.beat(daemonId), ctx.beat(other)]);
    const { rows } = await ctx.pool.query("SELECT FROM router_shards WHERE owner IS NOT NULL");
    return rows.length === 32;
  }, "half of them are free");
  assert.equal(router.lanes.held().length, 32);
});

test("the shards of a daemon that died are taken over when its leases end (F12)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  await ctx.addTenant(7, runtime.url);
  await ctx.pool.query("UPDATE router_shards SET owner = $1, epoch = 9, expires_at = now() + interval '3 s'", [
    randomUUID(),
  ]);
  const { acceptor, router } = await ctx.route();
  assert.equal(router.lanes.held().length, 0);
  await acceptor.accept(message(1, 7));
  await ctx.untilOutcome(1, "delivered");
  assert.deepEqual(new Set(router.lanes.held().map((lease) => lease.epoch)), new Set([10]));
});

test("whoever lost a shard cannot finish what it was at, and does not go on (F12, F89)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  const held = Promise.withResolvers<void>();
  runtime.state.answer = async (arrival, response) => {
    await held.promise;
    await accept(arrival, response);
  };
  await ctx.addTenant(7, runtime.url);
  const { acceptor, router } = await ctx.route();
  await acceptor.accept(message(1, 7));
  await acceptor.accept(message(2, 7));
  await runtime.waitFor((arrival) => arrival.updateId === 1);
  await ctx.pool.query("UPDATE router_shards SET owner = $1, epoch = epoch + 1, expires_at = now() + interval '1 h'", [
    randomUUID(),
  ]);
  held.resolve();
  await until(() => router.lanes.held().length === 0, "the loss is noticed");
  assert.deepEqual(await ctx.outcomes(), { 1: null, 2: null });
  assert.deepEqual(runtime.ids(), [1]);
});

test("finishing is fenced by owner and epoch, and finishing again changes nothing", async (t) => {
  const ctx = await setUp(t);
  const { acceptor, daemonId, router } = await ctx.route();
  await router.stop();
  await acceptor.accept(message(1, 7));
  const shard = shardOf(7);
  await ctx.pool.query("UPDATE router_shards SET owner = $1, epoch = 5", [daemonId]);
  const finish = (owner: DaemonId, epoch: number, outcome: "delivered" | "dead") =>
    finishUpdates(ctx.pool, owner, ctx.clock.now(), [
      { seq: 1, lane: 7, shard, epoch, outcome, reason: null, tenantId: null },
    ]);
  assert.deepEqual(await finish(daemonId, 4, "dead"), [false]);
  assert.deepEqual(await finish(randomUUID() as DaemonId, 5, "dead"), [false]);
  assert.deepEqual(await ctx.outcomes(), { 1: null });
  assert.deepEqual(await finish(daemonId, 5, "delivered"), [true]);
  assert.deepEqual(await finish(daemonId, 5, "dead"), [true]);
  assert.deepEqual(await ctx.outcomes(), { 1: "delivered" });
});
