import assert from "node:assert/strict";
import test from "node:test";
import { UpstreamError, UsageError } from "../platform/errors.ts";
import { createAcceptor } from "./router.ts";
import { BOT_ID, message, setUp, until } from "./test-setup.ts";

test("an update is kept once however often and however closely it is sent (F8)", async (t) => {
  const ctx = await setUp(t);
  const acceptors = [1, 2].map(() => createAcceptor({ ...ctx, botId: BOT_ID }, undefined));
  const sent = [1, 2, 1, 3, 2].flatMap((id) => acceptors.map((acceptor) => acceptor.accept(message(id, 7))));
  const results = await Promise.all(sent);
  assert.equal(results.filter((result) => result === "accepted").length, 3);
  assert.equal(await acceptors[0]?.accept(message(3, 7)), "duplicate");
  assert.deepEqual(Object.keys(await ctx.outcomes()), ["1", "2", "3"]);
});

test("the same update id of another bot is another update", async (t) => {
  const ctx = await setUp(t);
  await createAcceptor({ ...ctx, botId: 1 }, undefined).accept(message(1, 7));
  assert.equal(await createAcceptor({ ...ctx, botId: 2 }, undefined).accept(message(1, 7)), "accepted");
});

test("what is no update is refused and not kept", async (t) => {
  const ctx = await setUp(t);
  const acceptor = createAcceptor({ ...ctx, botId: BOT_ID }, undefined);
  for (const body of ["", "{", "[]", "null", "{}", '{"update_id":"1"}', '{"update_id":1.5}', '{"update_id":1e300}']) {
    await assert.rejects(acceptor.accept(Buffer.from(body)), UsageError, body);
  }
  assert.deepEqual(await ctx.outcomes(), {});
});

test("an update is refused while it can't be committed, and its repetition is kept (F9, F24)", async (t) => {
  const ctx = await setUp(t);
  const acceptor = createAcceptor({ ...ctx, botId: BOT_ID }, undefined);
  const blocker = await ctx.pool.connect();
  await blocker.query("BEGIN; LOCK TABLE telegram_updates IN ACCESS EXCLUSIVE MODE");
  await assert.rejects(acceptor.accept(message(1, 7)), { name: UpstreamError.name, code: "not_accepted" });
  await blocker.query("COMMIT");
  blocker.release();
  // Which of the two calls kept it does not matter.
  await acceptor.accept(message(1, 7));
  assert.deepEqual(await ctx.outcomes(), { 1: null });
});

test("an update whose connection breaks is refused, and its repetition is kept over a new one (F9, F83)", async (t) => {
  const ctx = await setUp(t);
  const acceptor = createAcceptor({ ...ctx, botId: BOT_ID }, undefined);
  const blocker = await ctx.pool.connect();
  await blocker.query("BEGIN; LOCK TABLE telegram_updates IN ACCESS EXCLUSIVE MODE");
  const refused = assert.rejects(acceptor.accept(message(1, 7)), { code: "not_accepted" });
  const waiting =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%INSERT INTO telegram_updates%' AND pid <> pg_backend_pid()";
  await until(
    async () => (await ctx.pool.query(`${waiting} AND wait_event_type = 'Lock'`)).rowCount === 1,
    "the insert waits and is cut off",
  );
  await refused;
  await blocker.query("COMMIT");
  blocker.release();
  assert.equal(await acceptor.accept(message(1, 7)), "accepted");
});
