import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test from "node:test";
import { sql } from "kysely";
import { listOpenLanes, readBacklog } from "./backlog.ts";
import { viewChat } from "./chat-view.ts";
import { insertUpdates } from "./inbox.ts";
import { accept, answerWith, BOT_ID, message, setUp, startRuntime } from "./test-setup.ts";
import { shardOf } from "./update.ts";

type Ctx = Awaited<ReturnType<typeof setUp>>;

/** Accepts an update of each chat, in this order, without anybody to work on them. */
async function leave(ctx: Ctx, chats: readonly number[], firstId = 1): Promise<void> {
  const items = chats.map((chat, index) => {
    const updateId = firstId + index;
    return { updateId, lane: chat, shard: shardOf(chat), body: message(updateId, chat) };
  });
  await insertUpdates(ctx.pool, { botId: BOT_ID, acceptedAt: ctx.clock.now(), items, hint: [] }, "skip");
}

test("lanes are listed with their depth, age, tenant and owner, the one that has waited longest first", async (t) => {
  const ctx = await setUp(t);
  assert.deepEqual(await listOpenLanes(ctx.db, 10), []);
  const tenantId = await ctx.addTenant(7, null);
  const daemonId = randomUUID();
  await ctx.pool.query(
    "UPDATE router_shards SET owner = $1, epoch = 9, expires_at = now() + interval '1 h' WHERE shard = $2",
    [daemonId, shardOf(7)],
  );
  await ctx.beat(daemonId as Parameters<typeof ctx.beat>[0]);
  const begun = ctx.clock.now();
  await leave(ctx, [7, 7]);
  ctx.clock.advance(60_000);
  await leave(ctx, [8, 7, 9], 3);
  const lanes = await listOpenLanes(ctx.db, 2);
  assert.deepEqual(
    lanes.map(({ lane, depth, oldestAcceptedAt }) => ({ lane, depth, oldestAcceptedAt })),
    [
      { lane: 7, depth: 3, oldestAcceptedAt: begun },
      { lane: 8, depth: 1, oldestAcceptedAt: ctx.clock.now() },
    ],
  );
  const [first, second] = lanes;
  assert.deepEqual(first?.tenant, { id: tenantId, slug: "chat-7", status: "active" });
  assert.deepEqual([first?.owner?.daemonId, first?.owner?.epoch, first?.owner?.live], [daemonId, 9, true]);
  assert.equal(first?.owner?.pid, process.pid);
  assert.deepEqual([second?.tenant, second?.owner], [null, null]);
  assert.deepEqual(await readBacklog(ctx.db), {
    updates: 5,
    lanes: 3,
    deepest: 3,
    oldestAcceptedAt: begun,
    deadLetters: 0,
  });
});

test("what waits is found without reading the finished rows, however many there are", async (t) => {
  const ctx = await setUp(t);
  await ctx.pool.query(
    `INSERT INTO telegram_updates (bot_id, update_id, lane, shard, body, accepted_at, outcome, finished_at)
     SELECT 4242, id, id % 1000, id % 64, 'x', now(), 'delivered', now() FROM generate_series(1, 20000) AS id`,
  );
  await leave(ctx, [7, 8, 9], 30_000);
  await ctx.pool.query("ANALYZE telegram_updates");
  await ctx.db.transaction().execute(async (tx) => {
    assert.equal((await listOpenLanes(tx, 10)).length, 3);
    assert.equal((await readBacklog(tx)).updates, 3);
    const { rows } = await sql`SELECT pg_stat_get_xact_numscans('telegram_updates'::regclass) AS scans`.execute(tx);
    assert.deepEqual(rows, [{ scans: 0 }]);
  });
});

test("a chat's view says where it leads, what waits there and what would happen next", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  const tenantId = await ctx.addTenant(7, runtime.url);
  const { acceptor, daemonId } = await ctx.route();
  await acceptor.accept(message(1, 7));
  await ctx.untilOutcome(1, "delivered");
  runtime.state.answer = answerWith(400);
  await acceptor.accept(message(2, 7));
  await ctx.untilOutcome(2, "dead");
  runtime.state.answer = answerWith(503);
  for (const id of [3, 4]) await acceptor.accept(message(id, 7));
  const view = await viewChat(ctx, 7);
  assert.equal(view.next.route?.tenant.id, tenantId);
  assert.deepEqual(view.next.verdict, { kind: "deliver", address: runtime.url });
  assert.deepEqual(view.entitlement, { entitled: true, reason: "exempt from billing" });
  assert.equal(view.owner?.daemonId, daemonId);
  assert.deepEqual([view.openCount, view.open.map((update) => update.updateId)], [2, [3, 4]]);
  assert.deepEqual(view.open[0]?.simulation?.verdict, { kind: "deliver", address: runtime.url });
  assert.equal(view.lastDelivered?.updateId, 1);
  assert.equal(view.deadLetters, 1);
  runtime.state.answer = accept;
  await ctx.untilOutcome(4, "delivered");
  const strange = await viewChat(ctx, -100);
  assert.deepEqual([strange.next.route, strange.entitlement, strange.openCount], [undefined, null, 0]);
  assert.deepEqual(strange.next.verdict, { kind: "answer", topic: "privateOnly" });
});
