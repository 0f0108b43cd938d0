import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import fc from "fast-check";
import type pg from "pg";
import { createPool } from "../../../platform/db.ts";
import { DeferredError } from "../../../platform/errors.ts";
import { createLog } from "../../../platform/log.ts";
import { createTestDatabase, type TestDatabase } from "../../../testing/database.ts";
import { URGENCIES, type Urgency } from "../runtime-driver.ts";
import { claimCall, recordThrottling } from "./arm-budget-store.ts";
import { type ArmBudgetState, createArmBudget, readBudgets } from "./arm-budget.ts";

const MINUTE_SECONDS = 60;
const log = createLog("error", { write: () => true });

let database: TestDatabase;
/** Several daemons. */
const pools: pg.Pool[] = [];
before(async () => {
  database = await createTestDatabase();
  await logCalls(database.pool);
  for (let nth = 0; nth < 3; nth += 1)
    pools.push(
      createPool({
        url: database.url,
        max: 4,
        applicationName: "daemon",
        onIdleError: () => undefined,
      }),
    );
});
after(async () => {
  for (const pool of pools) await pool.end();
  await database[Symbol.asyncDispose]();
});

/** Has the database itself write down when, by its own clock, each call was let through. */
async function logCalls(pool: pg.Pool): Promise<void> {
  await pool.query(`
    CREATE TABLE granted (subscription_id text, at timestamptz, urgency text);
    CREATE FUNCTION log_grants() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO granted SELECT NEW.subscription_id, NEW.refilled_at, key FROM jsonb_each_text(NEW.spent)
        WHERE value::int > coalesce((OLD.spent ->> key)::int, 0);
      RETURN NEW;
    END $$;
    CREATE TRIGGER log_grants AFTER UPDATE ON arm_budgets FOR EACH ROW EXECUTE FUNCTION log_grants()`);
}

type Subscription = {
  subscriptionId: string;
  /** One try by one of the daemons; whether it got a call. */
  tryOnce(urgency: Urgency): Promise<boolean>;
  /** Milliseconds to wait, 0 for a call. */
  ask(urgency: Urgency): Promise<number>;
  throttle(blockMs?: number): Promise<void>;
  /** Lets time pass, for the budget and for what is written down of it. */
  pass(seconds: number): Promise<void>;
  state(): Promise<ArmBudgetState>;
  /** The most calls in any window of so many seconds. */
  mostWithin(seconds: number, urgency?: Urgency): Promise<number>;
};

let subscriptions = 0;

function newSubscription(callsPerMinute = 60): Subscription {
  subscriptions += 1;
  const key = { subscriptionId: `00000000-0000-0000-0000-${String(subscriptions).padStart(12, "0")}`, callsPerMinute };
  let turn = 0;
  const nextPool = (): pg.Pool => pools[(turn += 1) % pools.length] ?? database.pool;
  const ask = async (urgency: Urgency) => (await claimCall(nextPool(), key, { urgency, patienceMs: 20_000 })).waitMs;
  return {
    subscriptionId: key.subscriptionId,
    ask,
    tryOnce: async (urgency) => (await ask(urgency)) === 0,
    throttle: async (blockMs = 1_000) => void (await recordThrottling(nextPool(), key, blockMs)),
    async pass(seconds) {
      const values = [key.subscriptionId, seconds];
      await database.pool.query(
        `UPDATE arm_budgets SET refilled_at = refilled_at - $2 * interval '1 second', blocked_until = blocked_until - $2 * interval '1 second',
         halved_at = halved_at - $2 * interval '1 second' WHERE subscription_id = $1`,
        values,
      );
      await database.pool.query(
        "UPDATE granted SET at = at - $2 * interval '1 second' WHERE subscription_id = $1",
        values,
      );
    },
    async state() {
      const all = await readBudgets(nextPool(), callsPerMinute);
      const own = all.find(({ subscriptionId }) => subscriptionId === key.subscriptionId);
      assert.ok(own);
      return own;
    },
    async mostWithin(seconds, urgency) {
      const { rows } = await database.pool.query<{ most: number }>(
        `SELECT coalesce(max(calls), 0)::int AS most FROM (
           SELECT count(*) OVER (ORDER BY at RANGE BETWEEN CURRENT ROW AND $2 * interval '1 second' FOLLOWING) AS calls
           FROM granted WHERE subscription_id = $1 AND urgency LIKE $3) AS windows`,
        [key.subscriptionId, seconds, urgency ?? "%"],
      );
      return rows[0]?.most ?? 0;
    },
  };
}

/** As many calls as there are. */
async function drain(subscription: Subscription, urgency: Urgency): Promise<number> {
  let calls = 0;
  while (await subscription.tryOnce(urgency)) calls += 1;
  return calls;
}

test("no window of a minute holds more calls than are allowed, however many daemons ask at once", async () => {
  const subscription = newSubscription(60);
  for (let second = 0; second < 150; second += 3) {
    await Promise.all(Array.from({ length: 12 }, () => subscription.tryOnce("wake")));
    await subscription.pass(3);
  }
  const most = await subscription.mostWithin(MINUTE_SECONDS);
  assert.ok(most <= 60, `${most} calls in a minute`);
  assert.ok(most >= 55, `what is allowed is made use of: ${most} calls`);
});

const stepArbitrary = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ urgency: fc.constantFrom(...URGENCIES), calls: fc.integer({ min: 1, max: 12 }) }),
  },
  { weight: 3, arbitrary: fc.record({ seconds: fc.integer({ min: 1, max: 40 }) }) },
  { weight: 1, arbitrary: fc.record({ blockMs: fc.integer({ min: 1_000, max: 60_000 }) }) },
);

test("whatever is asked, and whenever Azure throttles: the minute, the quarter of sweeps and the block hold", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(6, 20, 60, 240),
      fc.array(stepArbitrary, { minLength: 20, maxLength: 60 }),
      async (callsPerMinute, steps) => {
        const subscription = newSubscription(callsPerMinute);
        for (const step of steps) {
          if ("seconds" in step) await subscription.pass(step.seconds);
          else if ("blockMs" in step) {
            await subscription.throttle(step.blockMs);
            assert.equal(await subscription.tryOnce("wake"), false, "nobody calls while Azure wants to be left alone");
          } else await Promise.all(Array.from({ length: step.calls }, () => subscription.tryOnce(step.urgency)));
        }
        const most = await subscription.mostWithin(MINUTE_SECONDS);
        assert.ok(most <= callsPerMinute, `${most} calls in a minute`);
        const sweeps = await subscription.mostWithin(MINUTE_SECONDS, "sweep");
        assert.ok(sweeps <= Math.max(1, callsPerMinute / 4), `${sweeps} calls of sweeps in a minute`);
      },
    ),
    { numRuns: 15 },
  );
});

test("the less urgent leave calls to the more urgent", async () => {
  const subscription = newSubscription(60);
  const taken = [];
  for (const urgency of ["rollout", "repair", "provision", "wake"] as const)
    taken.push(await drain(subscription, urgency));
  assert.ok(
    taken.every((calls) => calls > 0),
    `each finds some: ${taken.join(", ")}`,
  );
  assert.equal(await subscription.tryOnce("wake"), false);
});

test("a rollout that goes on for an hour never holds up a wake", async () => {
  const subscription = newSubscription(60);
  for (let minute = 0; minute < 60; minute += 1) {
    await drain(subscription, "rollout");
    assert.equal(await subscription.tryOnce("wake"), true);
    await subscription.pass(60);
  }
});

test("nobody starves while wakes take all there is, and wakes get most of it", async () => {
  const subscription = newSubscription(60);
  await drain(subscription, "wake");
  const lower = URGENCIES.filter((urgency) => urgency !== "wake");
  for (let second = 0; second < 300; second += 1) {
    await Promise.all([...lower, "wake" as const, "wake" as const].map((urgency) => subscription.tryOnce(urgency)));
    await subscription.pass(1);
  }
  const { spent } = await subscription.state();
  for (const urgency of lower) assert.ok(spent[urgency] >= 5, `${urgency}: ${spent[urgency]} calls in five minutes`);
  const all = Object.values(spent).reduce((sum, calls) => sum + calls, 0);
  assert.ok(spent.wake > all / 2, `wakes got ${spent.wake} of ${all}`);
  assert.ok(spent.provision > spent.rollout);
});

test("also the smallest budget serves everybody in the end", async () => {
  const subscription = newSubscription(6);
  await subscription.throttle();
  await subscription.throttle();
  for (let second = 0; second < 3_600; second += 15) {
    await Promise.all(URGENCIES.map((urgency) => subscription.tryOnce(urgency)));
    await subscription.pass(15);
  }
  const { spent } = await subscription.state();
  for (const urgency of URGENCIES) assert.ok(spent[urgency] > 0, `${urgency}: ${spent[urgency]} calls in an hour`);
});

test("sweeps get a quarter and no more, though nobody else asks", async () => {
  const subscription = newSubscription(60);
  let calls = 0;
  for (let second = 0; second < 600; second += 2) {
    if (await subscription.tryOnce("sweep")) calls += 1;
    await subscription.pass(2);
  }
  const most = await subscription.mostWithin(MINUTE_SECONDS, "sweep");
  assert.ok(most <= 15, `${most} calls in a minute`);
  assert.ok(calls >= 100, `${calls} calls in ten minutes`);
});

test("the pace halves once for calls that were refused together, and comes back slowly (F49)", async () => {
  const subscription = newSubscription(60);
  await subscription.tryOnce("wake");
  await Promise.all(Array.from({ length: 8 }, () => subscription.throttle(5_000)));
  assert.deepEqual(pick(await subscription.state()), { callsPerMinute: 30, throttled: 8 });
  await subscription.pass(15);
  await subscription.throttle();
  const halved = await subscription.state();
  assert.ok(halved.callsPerMinute >= 15 && halved.callsPerMinute < 16, `${halved.callsPerMinute} calls a minute`);
  await subscription.pass(5 * MINUTE_SECONDS);
  const later = await subscription.state();
  assert.ok(later.callsPerMinute > 25 && later.callsPerMinute < 40, `${later.callsPerMinute} calls a minute`);
  await subscription.pass(20 * MINUTE_SECONDS);
  assert.equal((await subscription.state()).callsPerMinute, 60);
  for (let nth = 0; nth < 9; nth += 1) {
    await subscription.throttle();
    await subscription.pass(15);
  }
  assert.ok((await subscription.state()).callsPerMinute >= 6, "it never comes to a standstill");
});

function pick({ callsPerMinute, throttled }: ArmBudgetState) {
  return { callsPerMinute, throttled };
}

test("nobody calls before Retry-After is over, and then not all at once (F49)", async () => {
  const subscription = newSubscription(60);
  await subscription.tryOnce("wake");
  await subscription.throttle(120_000);
  await subscription.throttle(5_000);
  const { blockedMs, blockedUntil } = await subscription.state();
  assert.ok(blockedUntil !== undefined && blockedMs > 100_000, "the longest wins");
  assert.ok((await subscription.ask("wake")) > 100_000);
  await subscription.pass(100);
  assert.equal(await subscription.tryOnce("wake"), false);
  await subscription.pass(20);
  const calls = await drain(subscription, "wake");
  assert.ok(calls >= 1 && calls <= 3, `${calls} calls at once, of the 7 that the bucket holds`);
});

test(
  "a caller waits for its turn, and is told to come back when that takes too long",
  { timeout: 60_000 },
  async () => {
    const [pool = database.pool] = pools;
    const subscriptionId = "ABCDEF00-0000-0000-0000-000000000000";
    const fast = createArmBudget({ pool, subscriptionId, callsPerMinute: 1_000, log });
    await Promise.all(Array.from({ length: 260 }, () => fast.take("wake", undefined)));
    assert.deepEqual((await fast.state())?.spent, { wake: 260, provision: 0, repair: 0, sweep: 0, rollout: 0 });
    await fast.throttled(60_000);
    for (const urgency of URGENCIES) {
      await assert.rejects(fast.take(urgency, undefined), (error) => {
        assert.ok(error instanceof DeferredError && error.afterMs > 50_000 && error.afterMs <= 60_000);
        assert.equal(error.code, "arm_budget_spent");
        assert.match(error.message, /asked to be left alone/);
        return true;
      });
    }
  },
);

test("waiting ends at the signal, and holds no connection", async () => {
  const alone = createPool({ url: database.url, max: 1, applicationName: "daemon", onIdleError: () => undefined });
  try {
    const subscriptionId = "11111111-0000-0000-0000-000000000000";
    const budget = createArmBudget({ pool: alone, subscriptionId, callsPerMinute: 6, log });
    await budget.take("wake", undefined);
    const stop = new AbortController();
    const waiting = budget.take("wake", stop.signal);
    for (let answered = 0; answered < 3; answered += 1) await alone.query("SELECT 1");
    stop.abort(new Error("the daemon stops"));
    await assert.rejects(waiting, /the daemon stops/);
    assert.equal((await budget.state())?.spent.wake, 1);
  } finally {
    await alone.end();
  }
});
