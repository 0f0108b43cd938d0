import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import fc from "fast-check";
import { createLog } from "../platform/log.ts";
import type { Entry, OpenLane } from "./inbox.ts";
import { createLanes, type Lanes, type Step } from "./lanes.ts";

/**
 * What may happen to a shard with two daemons. `accept` by the owner hands the update over; by the other it is announced, or
 * the announcement is lost. `takeover` is a lease that ran out, which its old owner learns by `notice` or from the fence.
 */
type Action =
  | { kind: "accept"; lane: number; by: "owner" | "other"; announced: boolean; repeats: boolean }
  | { kind: "takeover" | "crash" | "notice" | "reload" }
  | { kind: "runtime"; next: "defer" | "throw" }
  | { kind: "database"; next: "fail" | "commit and fail" }
  | { kind: "time"; turns: number };

const LANES = [1, 2, 3];

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("accept" as const),
      lane: fc.constantFrom(...LANES),
      by: fc.constantFrom("owner" as const, "other" as const),
      announced: fc.boolean(),
      repeats: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom("takeover" as const, "crash" as const, "notice" as const, "reload" as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("runtime" as const),
      next: fc.constantFrom("defer" as const, "throw" as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("database" as const),
      next: fc.constantFrom("fail" as const, "commit and fail" as const),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("time" as const), turns: fc.integer({ min: 1, max: 8 }) }) },
);

/** The model: an inbox, who owns the shard, and what the runtime saw. Everything else is the code under test. */
function createWorld(t: TestContext) {
  const rows: { seq: number; lane: number; finished: boolean }[] = [];
  const arrivals: number[] = [];
  const troubles = { runtime: [] as string[], database: [] as string[] };
  let epoch = 0;
  let owner = startDaemon();
  const retired: Daemon[] = [];
  /** Each may leave one update of a lane in flight, to be done again. */
  let disruptions = 0;

  type Daemon = { lanes: Lanes; isAlive: boolean; epoch: number };

  function startDaemon(): Daemon {
    const daemon: Daemon = { isAlive: true, epoch: 0, lanes: undefined as unknown as Lanes };
    daemon.lanes = createLanes({
      concurrency: 4,
      log: createLog("error", { write: () => undefined }),
      async process({ seq }): Promise<Step> {
        if (!daemon.isAlive) return hang();
        const trouble = troubles.runtime.shift();
        if (trouble === "throw") throw new Error("the runtime can't be asked");
        if (trouble === "defer") return { kind: "defer", delayMs: 1 };
        arrivals.push(seq);
        await turn();
        return daemon.isAlive ? { kind: "finish", outcome: "delivered" } : hang();
      },
      async finish({ seq }, under) {
        const trouble = troubles.database.shift();
        if (trouble === "fail") throw new Error("the database is away");
        await turn();
        if (!daemon.isAlive) return hang();
        if (daemon !== owner || under !== epoch) return false;
        const row = rows.find((candidate) => candidate.seq === seq);
        if (row !== undefined) row.finished = true;
        if (trouble === "commit and fail") throw new Error("the answer was lost");
        return true;
      },
      async findOpenLanes() {
        const found = LANES.map((lane) => ({ lane, open: open(lane) })).filter(({ open: list }) => list.length > 0);
        await turn();
        return found.map(({ lane, open: list }): OpenLane => ({
          shard: 0,
          lane,
          updates: list.length,
          newest: Math.max(...list.map((row) => row.seq)),
        }));
      },
      async loadLane(_shard, lane, limit) {
        const found = open(lane).slice(0, limit);
        await turn();
        return found.map((row) => entryOf(row));
      },
    });
    return daemon;
  }

  const open = (lane: number) => rows.filter((row) => row.lane === lane && !row.finished);
  const entryOf = ({ seq, lane }: { seq: number; lane: number }): Entry => ({
    seq,
    botId: 1,
    updateId: seq,
    lane,
    shard: 0,
    body: Buffer.alloc(0),
    acceptedAt: new Date(0),
  });

  async function takeOver(next: Daemon): Promise<void> {
    retired.push(owner);
    disruptions += 1;
    epoch += 1;
    owner = next;
    next.epoch = epoch;
    await next.lanes.open([{ shard: 0, epoch }]);
  }

  function accept({ lane, by, announced, repeats }: Extract<Action, { kind: "accept" }>): void {
    // Kept already: a repetition is not inserted, and nobody is told.
    if (repeats && rows.length > 0) return;
    const behind = open(lane).at(-1)?.seq;
    const row = { seq: rows.length + 1, lane, finished: false };
    rows.push(row);
    if (by === "owner") owner.lanes.offer(entryOf(row), behind);
    else if (announced) void owner.lanes.reload([0]);
  }

  async function turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    t.mock.timers.tick(1_000);
  }

  async function act(step: Action): Promise<void> {
    switch (step.kind) {
      case "accept":
        return accept(step);
      case "takeover":
        return void takeOver(startDaemon());
      case "crash":
        owner.isAlive = false;
        return void takeOver(startDaemon());
      case "notice":
        return void retired.at(-1)?.lanes.close([0]);
      case "reload":
        return void owner.lanes.reload([0]);
      case "runtime":
        troubles.runtime.push(step.next);
        return;
      case "database":
        troubles.database.push(step.next);
        return;
      case "time":
        for (let turns = 0; turns < step.turns; turns += 1) await turn();
    }
  }

  return {
    rows,
    arrivals,
    act,
    begin: () => takeOver(startDaemon()),
    disruptions: () => disruptions,
    async settle() {
      troubles.runtime.length = 0;
      troubles.database.length = 0;
      for (let turns = 0; rows.some((row) => !row.finished); turns += 1) {
        assert.ok(
          turns < 5_000,
          `still open: ${rows
            .filter((row) => !row.finished)
            .map((row) => row.seq)
            .join()}`,
        );
        // What is only insurance in a daemon: a scan every few seconds.
        if (turns % 20 === 0) void owner.lanes.reload([0]);
        await turn();
      }
      const alive = [owner, ...retired].filter((daemon) => daemon.isAlive);
      const closing = new Set(alive);
      for (const daemon of alive) void daemon.lanes.closeAll().then(() => closing.delete(daemon));
      while (closing.size > 0) await turn();
    },
  };
}

/** A process that is no more says nothing. */
function hang(): Promise<never> {
  return new Promise(() => undefined);
}

test("whatever daemons, leases, hints, runtimes and the database do, each update arrives, in order, and again only if it was in flight (F8, F12, F14)", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 60 }), async (actions) => {
      const world = createWorld(t);
      await world.begin();
      for (const step of actions) await world.act(step);
      await world.settle();
      for (const lane of LANES) {
        const accepted = world.rows.filter((row) => row.lane === lane).map((row) => row.seq);
        const arrived = world.arrivals.filter((seq) => accepted.includes(seq));
        assert.deepEqual([...new Set(arrived)], accepted, `lane ${lane} lost something or its order`);
        const repeated = arrived.length - accepted.length;
        assert.ok(repeated <= world.disruptions(), `lane ${lane} repeated ${repeated} times`);
      }
    }),
    { numRuns: 300 },
  );
});
