import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { until } from "../router/test-setup.ts";
import { createTestDatabase } from "../testing/database.ts";
import { ensureToken } from "./ensure-token.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { renewConnection } from "./refresh.ts";
import type { ConnectionKey } from "./store.ts";
import { HOUR_MS, NEVER, openStage, tokenOf } from "./test-setup.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

const RUNTIME = { askedBy: "runtime", minRemainingMs: 120_000, signal: NEVER } as const;
const SWEEP = { askedBy: "sweep", minRemainingMs: 0 } as const;

const ask = (ctx: IntegrationsContext, key: ConnectionKey) => ensureToken(ctx, key, RUNTIME);

test("20 who ask in two processes at once cause one refresh, and all get the token that counts (F76)", async (t) => {
  const { ctx, clock, provider, worker, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  clock.advance(HOUR_MS);
  const workers = [ctx, worker()];
  const answers = await Promise.all(Array.from({ length: 20 }, (_, nth) => ask(workers[nth % 2] ?? ctx, key)));
  assert.equal(stage.refreshes(), 1);
  assert.deepEqual(new Set(answers.map(tokenOf)), new Set([(await stage.stored(key))?.accessToken]));
  assert.equal(provider.grants[0]?.reuses, 0);
});

test("a sweep, a runtime and an operator who want the same at once cause one refresh (F76)", async (t) => {
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  clock.advance(HOUR_MS);
  await Promise.all([
    renewConnection(ctx, key, SWEEP),
    ask(ctx, key),
    ensureToken(ctx, key, { ...RUNTIME, askedBy: "operator", minRemainingMs: Number.POSITIVE_INFINITY }),
  ]);
  assert.equal(stage.refreshes(), 1);
});

test("while one refreshes, whoever could do with the present token waits for the new one, and is not refused", async (t) => {
  const { ctx, clock, provider, worker, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  clock.advance(HOUR_MS - 60_000);
  const hold = provider.hold("token", "before");
  const [one, other] = [ask(ctx, key), ask(worker(), key)];
  await hold.reached;
  hold.release();
  assert.equal(tokenOf(await one), tokenOf(await other));
  assert.equal(stage.refreshes(), 1);
});

test("an operator who waited for a refresh that failed does not ask the provider once more", async (t) => {
  const { ctx, clock, provider, worker, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  clock.advance(HOUR_MS);
  provider.failNext("token", { status: 503, body: "" });
  const hold = provider.hold("token", "before");
  const sweep = renewConnection(ctx, key, SWEEP);
  await hold.reached;
  let looks = 0;
  const db = ctx.db.withPlugin({
    transformQuery: ({ node }) => node,
    transformResult: async ({ result }) => {
      looks += 1;
      return result;
    },
  });
  const operator = renewConnection({ ...worker(), db }, key, { askedBy: "operator", minRemainingMs: HOUR_MS });
  await until(() => looks >= 2, "the operator waits");
  hold.release();
  assert.deepEqual([(await sweep).kind, (await operator).kind], ["unavailable", "unavailable"]);
  assert.equal(stage.refreshes(), 1);
});

test("a refresh whose database has gone dead unnoticed does not hold up those who ask later", async (t) => {
  const { ctx, clock, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  clock.advance(HOUR_MS);
  const db = ctx.db.withPlugin({
    transformQuery: ({ node }) => node,
    transformResult: () => new Promise<never>(() => undefined),
  });
  const monotonic = performance.now.bind(performance);
  let passedMs = 0;
  t.mock.method(performance, "now", () => monotonic() + passedMs);
  void renewConnection({ ...ctx, db }, key, SWEEP);
  passedMs = 30_000;
  assert.equal((await renewConnection(ctx, key, SWEEP)).kind, "renewed");
});

test("an asker that gives up does not end the refresh", async (t) => {
  const { ctx, clock, provider, ...stage } = await openStage(t, database.db);
  const key = await stage.connect();
  clock.advance(HOUR_MS);
  const hold = provider.hold("token", "after");
  const leaving = new AbortController();
  const gone = ensureToken(ctx, key, { ...RUNTIME, signal: leaving.signal });
  await hold.reached;
  leaving.abort(new Error("hung up"));
  await assert.rejects(gone, /hung up/);
  hold.release();
  assert.equal(tokenOf(await ask(ctx, key)), (await stage.stored(key))?.accessToken);
  assert.equal(stage.refreshes(), 1);
});
