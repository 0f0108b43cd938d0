import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import {
  dropDeadLetter,
  listDeadLetters,
  readDeadLetterBody,
  replayDeadLetter,
  selectDeadLetters,
} from "./dead-letters.ts";
import { accept, answerWith, message, setUp, startRuntime } from "./test-setup.ts";

const CHAT = 7;

/** A linked chat whose runtime refuses every update, so that all given are dead letters. */
async function setUpDead(t: TestContext, updateIds: readonly number[], options: { rateLimitPerMinute?: number } = {}) {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = answerWith(400);
  const tenantId = await ctx.addTenant(CHAT, runtime.url);
  const { acceptor, router } = await ctx.route(options);
  for (const id of updateIds) {
    await acceptor.accept(message(id, CHAT));
    await ctx.untilOutcome(id, "dead");
  }
  const { letters } = await listDeadLetters(ctx.db, {}, 100);
  return { ...ctx, runtime, tenantId, acceptor, router, letters };
}

async function audited(ctx: { pool: { query(sql: string): Promise<{ rows: { line: string }[] }> } }) {
  const { rows } = await ctx.pool.query(
    "SELECT action || ' ' || (detail->>'updateId') AS line FROM audit_log WHERE action LIKE 'dead-letter.%' ORDER BY id",
  );
  return rows.map((row) => row.line);
}

test("a replayed update is accepted anew, delivered as it came, and its letter is gone (F13)", async (t) => {
  const ctx = await setUpDead(t, [1]);
  const [letter] = ctx.letters;
  assert.deepEqual(
    { reason: letter?.reason, kind: letter?.kind, tenantId: letter?.tenantId, size: letter?.sizeBytes },
    {
      reason: "the runtime refused it with status 400",
      kind: "message",
      tenantId: ctx.tenantId,
      size: message(1, CHAT).length,
    },
  );
  // Far beyond the age at which an update is given up.
  ctx.clock.advance(24 * 3_600_000);
  ctx.runtime.state.answer = accept;
  const outcome = await replayDeadLetter(ctx, letter?.id ?? 0, "runtime mended");
  assert.equal(outcome.kind, "replayed");
  await ctx.untilOutcome(1, "delivered");
  assert.deepEqual(ctx.runtime.entries.at(-1)?.body, message(1, CHAT));
  const { rows } = await ctx.pool.query("SELECT accepted_at, seq FROM telegram_updates");
  assert.deepEqual(rows, [{ accepted_at: ctx.clock.now(), seq: outcome.kind === "replayed" && outcome.seq }]);
  assert.deepEqual(await selectDeadLetters(ctx.db, {}), []);
  assert.deepEqual(await audited(ctx), ["dead-letter.replayed 1"]);
  assert.deepEqual(ctx.telegram.messages(CHAT), []);
});

test("letters of one chat arrive in their order of acceptance, behind what is open there already", async (t) => {
  const ctx = await setUpDead(t, [1, 2, 3]);
  ctx.runtime.state.answer = answerWith(503);
  await ctx.acceptor.accept(message(4, CHAT));
  await ctx.runtime.waitFor((arrival) => arrival.updateId === 4);
  for (const id of await selectDeadLetters(ctx.db, { tenantId: ctx.tenantId })) await replayDeadLetter(ctx, id);
  const before = ctx.runtime.entries.length;
  ctx.runtime.state.answer = accept;
  await ctx.untilOutcome(3, "delivered");
  const delivered = [...new Set(ctx.runtime.ids().slice(before))];
  assert.deepEqual(delivered, [4, 1, 2, 3]);
});

test("replaying more of a chat than its rate limit allows loses none of it", async (t) => {
  const ids = [1, 2, 3, 4];
  const ctx = await setUpDead(t, ids, { rateLimitPerMinute: ids.length });
  ctx.runtime.state.answer = accept;
  for (const id of await selectDeadLetters(ctx.db, {})) await replayDeadLetter(ctx, id);
  for (const id of ids) await ctx.untilOutcome(id, "delivered");
});

test("of two operators who replay or drop a letter at once, one does and the other finds it gone", async (t) => {
  const ctx = await setUpDead(t, [1, 2, 3, 4]);
  ctx.runtime.state.answer = accept;
  const before = ctx.runtime.entries.length;
  const outcomes = await Promise.all(
    ctx.letters.flatMap(({ id }) => [replayDeadLetter(ctx, id), dropDeadLetter(ctx, id), replayDeadLetter(ctx, id)]),
  );
  assert.equal(outcomes.filter((outcome) => outcome.kind === "gone").length, 8);
  const replayed = outcomes.filter((outcome) => outcome.kind === "replayed").length;
  const left = "SELECT FROM telegram_updates WHERE finished_at IS NULL";
  while ((await ctx.pool.query(left)).rowCount !== 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(ctx.runtime.entries.length - before, replayed);
  assert.equal((await audited(ctx)).length, 4);
});

test("a letter whose update id Telegram has used again stays, and the newer update is left alone", async (t) => {
  const ctx = await setUpDead(t, [1]);
  // As after 48 hours: the finished row is pruned, and the id comes again.
  await ctx.pool.query("DELETE FROM telegram_updates");
  ctx.runtime.state.answer = accept;
  await ctx.acceptor.accept(message(1, CHAT, { text: "newer" }));
  await ctx.untilOutcome(1, "delivered");
  const arrived = ctx.runtime.entries.length;
  assert.deepEqual(await replayDeadLetter(ctx, ctx.letters[0]?.id ?? 0), { kind: "superseded" });
  assert.equal((await selectDeadLetters(ctx.db, {})).length, 1);
  assert.deepEqual(await ctx.outcomes(), { 1: "delivered" });
  assert.equal(ctx.runtime.entries.length, arrived);
  assert.deepEqual(await audited(ctx), []);
});

test("an update that dies again is a new letter", async (t) => {
  const ctx = await setUpDead(t, [1]);
  const [first] = ctx.letters;
  await replayDeadLetter(ctx, first?.id ?? 0);
  await ctx.untilOutcome(1, "dead");
  const { letters } = await listDeadLetters(ctx.db, {}, 10);
  assert.equal(letters.length, 1);
  assert.notEqual(letters[0]?.id, first?.id);
});

test("letters are picked by tenant and by when they were given up", async (t) => {
  const ctx = await setUpDead(t, [1]);
  ctx.clock.advance(3_600_000);
  const since = ctx.clock.now();
  await ctx.addTenant(8, ctx.runtime.url);
  for (const [id, chat] of [
    [2, 8],
    [3, CHAT],
  ] as const) {
    await ctx.acceptor.accept(message(id, chat));
    await ctx.untilOutcome(id, "dead");
  }
  const picked = async (selection: Parameters<typeof listDeadLetters>[1]) =>
    (await listDeadLetters(ctx.db, selection, 10)).letters.map((letter) => letter.updateId);
  assert.deepEqual(await picked({}), [3, 2, 1]);
  assert.deepEqual(await picked({ tenantId: ctx.tenantId }), [3, 1]);
  assert.deepEqual(await picked({ since }), [3, 2]);
  assert.deepEqual(await picked({ tenantId: ctx.tenantId, since }), [3]);
  const { letters, total } = await listDeadLetters(ctx.db, {}, 1);
  assert.deepEqual([letters.length, total], [1, 3]);
});

test("reading what somebody wrote leaves a line in the audit log, listing doesn't show it (F91)", async (t) => {
  const ctx = await setUpDead(t, [1]);
  const [letter] = ctx.letters;
  assert.ok(!JSON.stringify(ctx.letters).includes("hello"));
  assert.deepEqual(await audited(ctx), []);
  assert.deepEqual(await readDeadLetterBody(ctx, letter?.id ?? 0), message(1, CHAT));
  assert.deepEqual(await audited(ctx), ["dead-letter.read 1"]);
});
