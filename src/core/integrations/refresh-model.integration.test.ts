import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import fc from "fast-check";
import { createTestDatabase } from "../testing/database.ts";
import { disconnect } from "./disconnect.ts";
import { ensureToken, type TokenAnswer } from "./ensure-token.ts";
import { withLease } from "./lease.ts";
import { HOUR_MS, NEVER, openStage, tokenOf } from "./test-setup.ts";
import { type Call, type Moment, MOMENTS, workerThrough } from "./test-workers.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

const WORKERS = 3;
const ASK = { askedBy: "runtime", minRemainingMs: 120_000, signal: NEVER } as const;
const worker = fc.nat({ max: WORKERS - 1 });
const moment = fc.constantFrom(...MOMENTS);

const action = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("ask" as const), worker }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("expire" as const) }) },
  /** The worker stops at that moment of its next refresh, until it is woken or for good. */
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("stall" as const), worker, at: moment }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("wake" as const), worker }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("fault" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("disconnect" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reconnect" as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("settle" as const) }) },
);
type Action = typeof action extends fc.Arbitrary<infer Value> ? Value : never;

type Asked = { worker: number; answer: TokenAnswer | undefined; ended: Promise<unknown>; isCalm: boolean };

/** One connection, and workers that may stall. Tokens that were spent twice are taken for a day: whoever loses one may go on. */
async function createWorld(stage: Awaited<ReturnType<typeof openStage>>) {
  const { clock, provider } = stage;
  const key = await stage.connect();
  const wrongs: string[] = [];
  const asked: Asked[] = [];
  /** How often a lease was made to run out. */
  const runOuts = { begun: 0, ended: 0 };
  const inFlight: { began: typeof runOuts }[] = [];
  let isRevoked = false;

  const workers = Array.from({ length: WORKERS }, () => {
    const state = { plan: undefined as (typeof MOMENTS)[number] | undefined, stalled: new Set<() => void>() };
    const stall = async (call: Call, now: Moment) => {
      if (state.plan?.call !== call || state.plan.moment !== now) return;
      state.plan = undefined;
      await new Promise<void>((resolve) => state.stalled.add(resolve));
    };
    const ctx = workerThrough(stage, async (call, work) => {
      const began = { ...runOuts };
      await stall(call, "before");
      const result = await (call === "spend" ? alone(began, work) : work());
      await stall(call, "after");
      return result;
    });
    return { ctx, state };
  });

  function wake(nth: number): void {
    const stalled = workers[nth]?.state.stalled ?? assert.fail();
    for (const resume of stalled) resume();
    stalled.clear();
  }

  /** `began`: when the lease was seen to hold. Two of which none had its lease run out before the other began must not be. */
  async function alone<Result>(began: typeof runOuts, work: () => Promise<Result>): Promise<Result> {
    const flight = { began };
    const isTogether = (one: typeof runOuts, other: typeof runOuts) =>
      one.ended >= other.begun && other.ended >= one.begun;
    if (inFlight.some((other) => isTogether(other.began, began))) wrongs.push("two refreshes are in flight at once");
    inFlight.push(flight);
    try {
      return await work();
    } finally {
      inFlight.splice(inFlight.indexOf(flight), 1);
    }
  }

  function judge(answer: TokenAnswer, { isCalm, wasRevoked }: { isCalm: boolean; wasRevoked: boolean }): void {
    if (answer.kind === "gone" && answer.state !== "revoked") wrongs.push(`it is ${answer.state}`);
    if (!isCalm) return;
    if (answer.kind === "gone" && !wasRevoked) wrongs.push("it is gone, and nobody disconnected it");
    if (answer.kind === "token" && wasRevoked) wrongs.push("a token of what was disconnected");
    if (answer.kind === "token" && provider.holderOf(answer.accessToken) === undefined)
      wrongs.push("a token that does not work");
  }

  function ask(nth: number): void {
    const { ctx } = workers[nth] ?? assert.fail();
    const wasRevoked = isRevoked;
    const hear = async (): Promise<void> => {
      try {
        one.answer = await ensureToken(ctx, key, ASK);
        judge(one.answer, { isCalm: one.isCalm, wasRevoked });
      } catch (error) {
        // So that it is told with the rest of what is wrong.
        wrongs.push(String(error));
      }
    };
    const one: Asked = { worker: nth, answer: undefined, ended: Promise.resolve(), isCalm: true };
    one.ended = hear();
    asked.push(one);
  }

  async function runOut(): Promise<void> {
    runOuts.begun += 1;
    await stage.runOut(key);
    runOuts.ended += 1;
  }

  /** Until all have their answers but those whose worker is stalled; the leases of these run out. */
  async function settle(): Promise<void> {
    const isWaiting = ({ worker, answer }: Asked) => answer === undefined && workers[worker]?.state.stalled.size === 0;
    for (let looks = 0; asked.some(isWaiting); looks += 1) {
      assert.ok(looks < 1_000 && wrongs.length === 0, `all come to an end ${wrongs.join()}`);
      if (workers.some(({ state }) => state.stalled.size > 0)) await runOut();
      await Promise.race([delay(10), Promise.all(asked.filter(isWaiting).map(({ ended }) => ended))]);
    }
  }

  /** What those who still wait are told may be of before or after. */
  function disturb(): void {
    for (const one of asked) if (one.answer === undefined) one.isCalm = false;
  }

  async function change(work: () => Promise<unknown>, revoked: boolean): Promise<void> {
    await settle();
    disturb();
    await runOut();
    await work();
    isRevoked = revoked;
  }

  async function act(next: Action): Promise<void> {
    switch (next.kind) {
      case "ask":
        return ask(next.worker);
      case "expire":
        disturb();
        return clock.advance(HOUR_MS);
      case "stall":
        (workers[next.worker] ?? assert.fail()).state.plan = next.at;
        return;
      case "wake":
        return wake(next.worker);
      case "fault":
        return provider.failNext("token", { status: 503, body: "" });
      case "disconnect":
        if (isRevoked) return;
        return change(() => disconnect(stage.ctx, key, { reason: "disconnected", askedBy: "operator" }), true);
      case "reconnect":
        return change(
          () =>
            withLease(stage.ctx, key, { patienceMs: 1_000 }, ({ fence }) =>
              stage.reconnect(key, { secretFence: fence }, fence),
            ),
          false,
        );
      case "settle":
        return settle();
    }
  }

  async function check(): Promise<void> {
    assert.deepEqual(wrongs, []);
    const { state, secretFence, grantId } = await stage.connection(key);
    assert.equal(state, isRevoked ? "revoked" : "active");
    if (isRevoked) return;
    const stored = await stage.stored(key);
    assert.deepEqual(
      [stored?.fence, stored?.grantId],
      [secretFence, grantId],
      "the tokens that count are those of the row",
    );
  }

  return {
    act,
    check,
    /** All wake up, and whoever asks then gets a token that works. */
    async end(): Promise<void> {
      for (const { state } of workers) state.plan = undefined;
      for (let looks = 0; asked.some(({ answer }) => answer === undefined); looks += 1) {
        assert.ok(looks < 1_000 && wrongs.length === 0, `all come to an end ${wrongs.join()}`);
        for (const nth of workers.keys()) wake(nth);
        await delay(5);
      }
      provider.clearFaults();
      await check();
      clock.advance(HOUR_MS);
      const answers = await Promise.all(workers.map(({ ctx }) => ensureToken(ctx, key, ASK)));
      if (isRevoked) return assert.deepEqual(new Set(answers.map(({ kind }) => kind)), new Set(["gone"]));
      assert.deepEqual(new Set(answers.map(tokenOf)), new Set([(await stage.stored(key))?.accessToken]));
      for (const answer of answers) assert.ok(provider.holderOf(tokenOf(answer)) !== undefined);
      await check();
    },
  };
}

test("whoever asks, stalls, wakes up, disconnects and connects anew in whatever order: one refresh at a time, tokens that work, and nothing comes back to life (F76)", async (t: TestContext) => {
  const stage = await openStage(t, database.db, { leewayMs: 1_000 * HOUR_MS });
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 8, maxLength: 30 }), async (actions) => {
      const world = await createWorld(stage);
      await world.act({ kind: "expire" });
      for (const next of actions) {
        await world.act(next);
        if (next.kind === "settle") await world.check();
      }
      await world.end();
    }),
    { numRuns: Number(process.env["OPENCLAW_TEST_RUNS"] ?? 12) },
  );
});
