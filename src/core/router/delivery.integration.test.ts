import assert from "node:assert/strict";
import test from "node:test";
import { tenantSecretName } from "../adapters/vault/vault.ts";
import { accept, answerWith, message, setUp, startRuntime, until } from "./test-setup.ts";

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;

async function deadLetters(ctx: Awaited<ReturnType<typeof setUp>>) {
  const { rows } = await ctx.pool.query("SELECT update_id, reason FROM telegram_dead_letters ORDER BY id");
  return rows;
}

test("what a runtime refuses is a dead letter at once, and the chat goes on (F15)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = (arrival, response) =>
    arrival.updateId === 3
      ? accept(arrival, response)
      : answerWith(arrival.updateId === 1 ? 400 : 413)(arrival, response);
  await ctx.addTenant(7, runtime.url);
  const { acceptor } = await ctx.route();
  for (const id of [1, 2, 3]) await acceptor.accept(message(id, 7));
  await ctx.untilOutcome(3, "delivered");
  assert.deepEqual(runtime.ids(), [1, 2, 3]);
  assert.deepEqual(await deadLetters(ctx), [
    { update_id: 1, reason: "the runtime refused it with status 400" },
    { update_id: 2, reason: "the runtime refused it with status 413" },
  ]);
});

test("an update that breaks a healthy runtime three times is a dead letter (F15)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = (arrival, response) =>
    arrival.updateId === 2 ? accept(arrival, response) : answerWith(500)(arrival, response);
  await ctx.addTenant(7, runtime.url);
  const { acceptor } = await ctx.route();
  for (const id of [1, 2]) await acceptor.accept(message(id, 7));
  await ctx.untilOutcome(2, "delivered");
  assert.deepEqual(runtime.ids(), [1, 1, 1, 2]);
  assert.deepEqual(await deadLetters(ctx), [{ update_id: 1, reason: "the runtime broke on it 3 times" }]);
});

test("a runtime that has just come up may break on an update any number of times (F11)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = answerWith(500);
  const tenantId = await ctx.addTenant(7, runtime.url);
  await ctx.pool.query("UPDATE runtimes SET healthy_at = $2 WHERE tenant_id = $1", [tenantId, ctx.clock.now()]);
  const { acceptor } = await ctx.route();
  await acceptor.accept(message(1, 7));
  await until(() => runtime.entries.length >= 5, "it is tried five times");
  runtime.state.answer = accept;
  await ctx.untilOutcome(1, "delivered");
  assert.deepEqual(await deadLetters(ctx), []);
});

for (const [what, answer] of [
  ["503", answerWith(503)],
  ["200 without the durable mark", answerWith(200)],
  ["a redirect", answerWith(302)],
  ["a cut connection", (_arrival: unknown, response: { destroy(): void }) => response.destroy()],
] as const) {
  test(`a runtime that answers with ${what} costs no update its life, and is woken (F2, F10, F18)`, async (t) => {
    const ctx = await setUp(t);
    const runtime = await startRuntime(t);
    runtime.state.answer = answer;
    const tenantId = await ctx.addTenant(7, runtime.url);
    const { acceptor } = await ctx.route();
    await acceptor.accept(message(1, 7));
    await until(() => runtime.entries.length >= 4, "it is tried four times");
    const { rows } = await ctx.pool.query("SELECT task_identifier FROM graphile_worker.jobs WHERE key = $1", [
      `converge:${tenantId}`,
    ]);
    assert.deepEqual(rows, [{ task_identifier: "tenant.converge" }]);
    runtime.state.answer = accept;
    await ctx.untilOutcome(1, "delivered");
    assert.deepEqual(ctx.telegram.messages(7), []);
  });
}

test("a runtime with another secret is reported as such, and gets the update once they agree", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = (arrival, response) =>
    arrival.secret === "rotated" ? accept(arrival, response) : answerWith(401)(arrival, response);
  const tenantId = await ctx.addTenant(7, runtime.url);
  const { acceptor } = await ctx.route();
  await acceptor.accept(message(1, 7));
  await until(
    () => ctx.lines.some((line) => line.includes("401: the runtime has another webhook secret")),
    "it is said",
  );
  await ctx.vault.set(tenantSecretName(tenantId, "webhook-secret", 1), "rotated");
  await ctx.untilOutcome(1, "delivered");
});

test("while keys are rotated, a runtime that refuses one generation's secret gets the update with the other's at once (F98)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  const tenantId = await ctx.addTenant(7, runtime.url);
  await ctx.vault.set(tenantSecretName(tenantId, "webhook-secret", 2), "new-secret");
  await ctx.db
    .insertInto("keyRotations")
    .values({ tenantId, fromGeneration: 1, toGeneration: 2, reason: "test", requestedAt: ctx.clock.now() })
    .execute();
  let valid = "secret-of-7";
  runtime.state.answer = (arrival, response) =>
    (arrival.secret === valid ? accept : answerWith(401))(arrival, response);
  const { acceptor } = await ctx.route();
  const secretsOf = (id: number) =>
    runtime.entries.filter(({ updateId }) => updateId === id).map(({ secret }) => secret);
  await acceptor.accept(message(1, 7));
  await ctx.untilOutcome(1, "delivered");
  assert.deepEqual(secretsOf(1), ["secret-of-7"]);

  valid = "new-secret";
  await acceptor.accept(message(2, 7));
  await ctx.untilOutcome(2, "delivered");
  assert.deepEqual(secretsOf(2), ["secret-of-7", "new-secret"]);

  await ctx.pool.query("UPDATE runtimes SET key_generation = 2");
  await acceptor.accept(message(3, 7));
  await ctx.untilOutcome(3, "delivered");
  assert.deepEqual(secretsOf(3), ["new-secret"]);

  // The runtime has been put back to what it was.
  valid = "secret-of-7";
  await acceptor.accept(message(4, 7));
  await ctx.untilOutcome(4, "delivered");
  assert.deepEqual(secretsOf(4), ["new-secret", "secret-of-7"]);
  const { rows } = await ctx.pool.query("SELECT secret_refused_at FROM runtimes");
  assert.deepEqual(rows, [{ secret_refused_at: null }]);
});

test("without a rotation the other generation is not tried, and a runtime that refuses keeps its update and is to be mended", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  const tenantId = await ctx.addTenant(7, runtime.url);
  await ctx.vault.set(tenantSecretName(tenantId, "webhook-secret", 2), "new-secret");
  runtime.state.answer = (arrival, response) =>
    (arrival.secret === "new-secret" ? accept : answerWith(401))(arrival, response);
  const { acceptor } = await ctx.route();
  const refusedAt = async () => (await ctx.pool.query("SELECT secret_refused_at AS at FROM runtimes")).rows[0].at;
  await acceptor.accept(message(1, 7));
  await until(async () => (await refusedAt()) !== null, "it is noted");
  assert.deepEqual(await refusedAt(), ctx.clock.now());
  assert.deepEqual(new Set(runtime.entries.map(({ secret }) => secret)), new Set(["secret-of-7"]));
  const { rows } = await ctx.pool.query("SELECT task_identifier FROM graphile_worker.jobs WHERE key = $1", [
    `converge:${tenantId}`,
  ]);
  assert.deepEqual(rows, [{ task_identifier: "tenant.converge" }]);
  assert.equal((await ctx.outcomes())[1], null);
  runtime.state.answer = accept;
  await ctx.untilOutcome(1, "delivered");
  await until(async () => (await refusedAt()) === null, "it is forgotten");
  assert.deepEqual(await deadLetters(ctx), []);
});

test("whoever waits longer than 20 seconds is told so once (F23)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = answerWith(503);
  await ctx.addTenant(7, runtime.url);
  const { acceptor } = await ctx.route();
  await acceptor.accept(message(1, 7));
  await acceptor.accept(message(2, 7));
  await until(() => runtime.entries.length >= 2, "it is tried");
  assert.deepEqual(ctx.telegram.messages(7), []);
  ctx.clock.advance(21 * SECOND_MS);
  await ctx.telegram.waitFor((call) => call.method === "sendMessage");
  const tries = runtime.entries.length;
  await until(() => runtime.entries.length >= tries + 2, "it is tried again");
  runtime.state.answer = accept;
  await ctx.untilOutcome(2, "delivered");
  const [notice, ...more] = ctx.telegram.messages(7);
  assert.match(notice?.text ?? "", /is starting/);
  assert.deepEqual(more, []);
});

test("a message that could not be delivered for 10 minutes ends with an apology that names its time (F13)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = answerWith(503);
  await ctx.addTenant(7, runtime.url);
  const { acceptor } = await ctx.route();
  await acceptor.accept(message(1, 7, { date: 1_763_632_800 }));
  await runtime.waitFor(() => true);
  ctx.clock.advance(11 * MINUTE_MS);
  await acceptor.accept(message(2, 7));
  await ctx.untilOutcome(1, "dead");
  runtime.state.answer = accept;
  await ctx.untilOutcome(2, "delivered");
  const apologies = ctx.telegram.messages(7).filter((sent) => sent.text?.includes("2025-11-20 10:00 UTC"));
  assert.equal(apologies.length, 1);
  assert.deepEqual(await deadLetters(ctx), [{ update_id: 1, reason: "the runtime could not be reached in time" }]);
});

test("an apology that can't be said at once is said later, and a reaction gets none (F13)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = answerWith(503);
  await ctx.addTenant(7, runtime.url);
  const { acceptor } = await ctx.route();
  const reaction = { user: { id: 7, is_bot: false, first_name: "P" }, chat: { id: 7, type: "private" }, date: 1 };
  await acceptor.accept(Buffer.from(JSON.stringify({ update_id: 1, message_reaction: reaction })));
  await acceptor.accept(message(2, 7));
  await runtime.waitFor(() => true);
  for (let times = 0; times < 3; times += 1)
    ctx.telegram.failNext("sendMessage", { status: 502, body: "<html>Bad Gateway</html>" });
  ctx.clock.advance(11 * MINUTE_MS);
  await ctx.untilOutcome(1, "dead");
  await ctx.untilOutcome(2, "dead");
  assert.equal(ctx.telegram.messages(7).length, 1);
});

test("a tap that no runtime gets is answered all the same", async (t) => {
  const ctx = await setUp(t);
  const { acceptor } = await ctx.route();
  const tap = {
    id: "tap-1",
    from: { id: 9, is_bot: false, first_name: "P" },
    message: { date: 0, chat: { id: 9, type: "private" } },
  };
  await acceptor.accept(Buffer.from(JSON.stringify({ update_id: 1, callback_query: tap })));
  const call = await ctx.telegram.waitFor(({ method }) => method === "answerCallbackQuery");
  assert.deepEqual(call.params, { callback_query_id: "tap-1" });
});

test("a message to a sleeping runtime waits for it without spending tries (F10, F54)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  const tenantId = await ctx.addTenant(7, null);
  const { acceptor } = await ctx.route();
  await acceptor.accept(message(1, 7));
  await until(async () => {
    const { rows } = await ctx.pool.query("SELECT FROM graphile_worker.jobs WHERE key = $1", [`converge:${tenantId}`]);
    return rows.length === 1;
  }, "it is woken");
  await ctx.pool.query("UPDATE runtimes SET address = $2 WHERE tenant_id = $1", [tenantId, runtime.url]);
  await ctx.untilOutcome(1, "delivered");
  assert.deepEqual(runtime.ids(), [1]);
});

test("what goes beyond the limit of a chat's minute is dropped, counted, and said once (F28)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  await ctx.addTenant(7, runtime.url);
  const { acceptor } = await ctx.route({ rateLimitPerMinute: 3 });
  for (let id = 1; id <= 5; id += 1) await acceptor.accept(message(id, 7));
  await ctx.untilOutcome(5, "dropped");
  ctx.clock.advance(MINUTE_MS);
  await acceptor.accept(message(6, 7));
  await ctx.untilOutcome(6, "delivered");
  assert.deepEqual(runtime.ids(), [1, 2, 3, 6]);
  assert.equal(ctx.telegram.messages(7).length, 1);
});

test("neither messages nor secrets nor addresses with tokens are logged (F90, F91)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = answerWith(503);
  await ctx.addTenant(7, runtime.url);
  const { acceptor } = await ctx.route();
  ctx.telegram.failNext("sendMessage", { status: 403, body: { ok: false, description: "Forbidden: bot was blocked" } });
  await acceptor.accept(message(1, 7, { text: "something private" }));
  await acceptor.accept(message(2, 8, { text: "something private" }));
  await ctx.untilOutcome(2, "answered");
  runtime.state.answer = accept;
  await ctx.untilOutcome(1, "delivered");
  const logged = ctx.lines.join("\n");
  assert.match(logged, /could not write to a chat/);
  for (const secret of ["something private", "secret-of-7", "real-bot-token"])
    assert.ok(!logged.includes(secret), secret);
});

test("a daemon that takes a lane over goes by the rate limit's verdict that is on the row (F28)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = answerWith(503);
  await ctx.addTenant(7, runtime.url);
  const first = await ctx.route({ rateLimitPerMinute: 1 });
  await first.acceptor.accept(message(1, 7));
  await first.acceptor.accept(message(2, 7));
  const verdicts = "SELECT within_limit FROM telegram_updates ORDER BY seq";
  await until(async () => (await ctx.pool.query(verdicts)).rows[0].within_limit === true, "the verdict is on the row");
  await first.router.stop();
  runtime.state.answer = accept;
  await ctx.pool.query("UPDATE telegram_updates SET within_limit = false WHERE update_id = 2");
  // Counted anew, the first would use up the limit; counted at all, the second would be let through.
  await ctx.route({ rateLimitPerMinute: 1 });
  await ctx.untilOutcome(2, "dropped");
  assert.deepEqual(await ctx.outcomes(), { 1: "delivered", 2: "dropped" });
});

test("while a runtime is being woken its chat shows typing, and the update goes to it when it is up (F10, F54)", async (t) => {
  const ctx = await setUp(t);
  const runtime = await startRuntime(t);
  runtime.state.answer = answerWith(503);
  await ctx.addTenant(7, runtime.url);
  const { acceptor } = await ctx.route();
  await acceptor.accept(message(1, 7));
  const typing = await ctx.telegram.waitFor((call) => call.method === "sendChatAction");
  assert.deepEqual(typing.params, { chat_id: 7, action: "typing" });
  const { rows } = await ctx.pool.query("SELECT task_identifier FROM graphile_worker.jobs");
  assert.deepEqual(rows, [{ task_identifier: "tenant.converge" }]);
  runtime.state.answer = accept;
  await ctx.untilOutcome(1, "delivered");
  assert.deepEqual(ctx.telegram.messages(7), []);
});
