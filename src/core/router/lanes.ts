import type { TenantId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { pause } from "../platform/pause.ts";
import type { Entry, Outcome } from "./inbox.ts";

/** What became of one try at an update. */
export type Step =
  | { kind: "finish"; outcome: Outcome; reason?: string | undefined; tenantId?: TenantId | undefined }
  /** Not yet: the lane waits and tries the same update again. */
  | { kind: "defer"; delayMs: number };

type Finished = Extract<Step, { kind: "finish" }>;

export type LanesOptions = {
  /** One try at one update; always settles by itself. */
  process: (entry: Entry) => Promise<Step>;
  /** Makes the outcome durable; false when the shard was lost meanwhile, so that the outcome is not this daemon's to say. */
  finish: (entry: Entry, epoch: number, step: Finished) => Promise<boolean>;
  /** Reads unfinished updates of whole shards: the oldest `perLane` of each lane. */
  loadShards: (shards: readonly number[], perLane: number) => Promise<Entry[]>;
  loadLane: (shard: number, lane: number, afterSeq: number, limit: number) => Promise<Entry[]>;
  /** Tries under way at once, over all lanes. */
  concurrency: number;
  log: Log;
};

/** Updates of one lane kept in memory; the rest stay in the database until these are done. */
const LANE_CAPACITY = 100;
const FAILURE_DELAY_MS = 1_000;

type Lane = {
  key: number;
  queue: Entry[];
  /** More wait in the database than stand in `queue`. */
  spilled: boolean;
  running: boolean;
  /** What the first of `queue` has come to, while that is not recorded yet. */
  unrecorded: Finished | undefined;
};

type Shard = {
  number: number;
  epoch: number;
  lanes: Map<number, Lane>;
  /** Handed over while the backlog is still being read: older ones may come with it, so these wait. */
  early: { entry: Entry; behind: number | undefined }[] | undefined;
  /** Its lanes that are at work. */
  runs: Set<Promise<void>>;
  /** Aborted when nothing new may be begun here. */
  closed: AbortController;
};

/**
 * Works through the updates of the shards that this daemon holds: strictly in order of acceptance inside a lane, lanes
 * side by side. Holds no truth: everything here can be thrown away and read again from the database.
 */
export function createLanes(options: LanesOptions) {
  const shards = new Map<number, Shard>();
  /** Finished while a load was under way, whose snapshot may still show them as open. */
  const finishedDuringLoads = new Set<Set<number>>();
  const slots = createSlots(options.concurrency);

  /** Begins work on shards just taken, once nothing begun under an earlier lease is under way: reads their backlog first. */
  async function open(leases: readonly { shard: number; epoch: number }[]): Promise<void> {
    const numbers = leases.map((lease) => lease.shard);
    if (numbers.some((number) => shards.has(number))) await close(numbers);
    for (const { shard, epoch } of leases) {
      shards.set(shard, {
        number: shard,
        epoch,
        lanes: new Map(),
        early: [],
        runs: new Set(),
        closed: new AbortController(),
      });
    }
    try {
      await reload(numbers);
    } catch (error) {
      // Nothing may be worked on before the backlog is known: they are to be opened again.
      await close(numbers);
      throw error;
    }
    for (const { shard } of leases) {
      const state = shards.get(shard);
      if (state?.early === undefined) continue;
      const early = state.early;
      state.early = undefined;
      for (const { entry, behind } of early) hand(state, entry, behind);
    }
  }

  /** Stops work on shards: nothing new is begun there; settles when what was under way has ended and is recorded. */
  async function close(closing: readonly number[]): Promise<void> {
    const ending = closing.flatMap((number) => shards.get(number) ?? []);
    for (const shard of ending) shard.closed.abort();
    await Promise.all(ending.flatMap((shard) => [...shard.runs]));
    for (const shard of ending) if (shards.get(shard.number) === shard) shards.delete(shard.number);
  }

  /** A shard on which work may be begun. */
  function findOpen(number: number): Shard | undefined {
    const shard = shards.get(number);
    return shard?.closed.signal.aborted === false ? shard : undefined;
  }

  /**
   * An update that was just accepted; false when its shard is somebody else's. `behind` is the update of its lane that was
   * the newest open one then: another daemon may have accepted it, and the hint may still be on its way.
   */
  function offer(entry: Entry, behind?: number): boolean {
    const shard = findOpen(entry.shard);
    if (shard === undefined) return false;
    if (shard.early === undefined) hand(shard, entry, behind);
    else shard.early.push({ entry, behind });
    return true;
  }

  function hand(shard: Shard, entry: Entry, behind: number | undefined): void {
    if (behind === undefined || knows(shard, entry.lane, behind)) take(shard, entry);
    else readLane(shard, entry.lane);
  }

  function knows(shard: Shard, lane: number, seq: number): boolean {
    return shard.lanes.get(lane)?.queue.some((known) => known.seq === seq) === true;
  }

  /** Has the lane read from the database when it is through with what it knows. */
  function readLane(shard: Shard, key: number): void {
    const lane = laneOf(shard, key);
    lane.spilled = true;
    start(shard, lane);
  }

  /** Reads the shards' backlog again and takes in what is not known yet: after a hint, and as insurance. */
  async function reload(wanted: readonly number[]): Promise<void> {
    const finished = new Set<number>();
    finishedDuringLoads.add(finished);
    const reading = new Set(wanted.flatMap((number) => findOpen(number) ?? []));
    try {
      const entries = await options.loadShards(
        [...reading].map((shard) => shard.number),
        LANE_CAPACITY,
      );
      const found = new Map<Lane, number>();
      for (const entry of entries) {
        const shard = findOpen(entry.shard);
        // Taken anew since: somebody else may have finished what was read.
        if (shard === undefined || !reading.has(shard)) continue;
        const lane = laneOf(shard, entry.lane);
        found.set(lane, (found.get(lane) ?? 0) + 1);
        if (!finished.has(entry.seq)) add(lane, entry);
        // As many as were asked for: there may be more behind them.
        if (found.get(lane) === LANE_CAPACITY) lane.spilled = true;
        start(shard, lane);
      }
    } finally {
      finishedDuringLoads.delete(finished);
    }
  }

  function take(shard: Shard, entry: Entry): void {
    const lane = laneOf(shard, entry.lane);
    add(lane, entry);
    start(shard, lane);
  }

  function laneOf(shard: Shard, key: number): Lane {
    const lane = shard.lanes.get(key) ?? { key, queue: [], spilled: false, running: false, unrecorded: undefined };
    shard.lanes.set(key, lane);
    return lane;
  }

  function add(lane: Lane, entry: Entry): void {
    if (lane.queue.length >= LANE_CAPACITY) lane.spilled = true;
    if (lane.spilled) return;
    // Almost always the last one; acceptors in two daemons may hand over in another order than that of acceptance.
    let place = lane.queue.length;
    while (place > 0 && (lane.queue[place - 1]?.seq ?? 0) > entry.seq) place -= 1;
    // The first may be newer than those behind it: it was under way when they turned up.
    if (lane.queue[place - 1]?.seq === entry.seq || lane.queue[0]?.seq === entry.seq) return;
    // The first is under way already.
    lane.queue.splice(lane.running ? Math.max(1, place) : place, 0, entry);
  }

  function start(shard: Shard, lane: Lane): void {
    if (lane.running) return;
    lane.running = true;
    const run = runLane(shard, lane).finally(() => shard.runs.delete(run));
    shard.runs.add(run);
  }

  async function runLane(shard: Shard, lane: Lane): Promise<void> {
    const { signal } = shard.closed;
    for (;;) {
      const entry = lane.queue[0];
      if (signal.aborted) return;
      if (entry === undefined) {
        // Looked at again after reading: what is handed over meanwhile relies on this run.
        if (!lane.spilled) break;
        await refill(lane, shard);
        continue;
      }
      const delayMs = await attempt(shard, lane, entry);
      if (delayMs > 0) await pause(delayMs, signal);
    }
    shard.lanes.delete(lane.key);
  }

  /** One try; gives the pause before the next. */
  async function attempt(shard: Shard, lane: Lane, entry: Entry): Promise<number> {
    try {
      const step = lane.unrecorded ?? (await slots.use(() => tryOnce(shard, entry)));
      if (step.kind === "defer") return step.delayMs;
      // Kept when recording fails: what was delivered must not be delivered again because the database was away.
      lane.unrecorded = step;
      const kept = await options.finish(entry, shard.epoch, step);
      if (!kept) return loseShard(shard);
      lane.unrecorded = undefined;
      for (const finished of finishedDuringLoads) finished.add(entry.seq);
      lane.queue.shift();
      return 0;
    } catch (error) {
      // A lane must outlive whatever one update runs into; the update is kept and tried again.
      options.log.error({ error, seq: entry.seq }, "update could not be worked on, will be tried again");
      return FAILURE_DELAY_MS;
    }
  }

  async function tryOnce(shard: Shard, entry: Entry): Promise<Step> {
    // Closed while it waited for its turn.
    if (shard.closed.signal.aborted) return { kind: "defer", delayMs: 0 };
    return options.process(entry);
  }

  function loseShard(shard: Shard): number {
    if (!shard.closed.signal.aborted)
      options.log.warn({ shard: shard.number, epoch: shard.epoch }, "shard was taken over by another daemon");
    shard.closed.abort();
    return 0;
  }

  /** Reads on in a lane that has more than memory holds. */
  async function refill(lane: Lane, shard: Shard): Promise<void> {
    // Whatever is handed over from here on is either seen by this query or spills again.
    lane.spilled = false;
    const entries = await options.loadLane(shard.number, lane.key, 0, LANE_CAPACITY).catch((error: unknown) => {
      options.log.error({ error }, "lane could not be read, will be tried again");
      return undefined;
    });
    if (entries === undefined) {
      lane.spilled = true;
      await pause(FAILURE_DELAY_MS, shard.closed.signal);
      return;
    }
    // What was handed over while the query ran is newer than all it found: put in order behind it.
    const handed = lane.queue;
    const known = new Set(entries.map((entry) => entry.seq));
    lane.queue = [...entries, ...handed.filter((entry) => !known.has(entry.seq))].toSorted((a, b) => a.seq - b.seq);
    if (entries.length === LANE_CAPACITY) {
      lane.queue.length = LANE_CAPACITY;
      lane.spilled = true;
    }
  }

  return {
    open,
    close,
    closeAll: () => close([...shards.keys()]),
    offer,
    reload,
    /** Shards that are open, with the epochs under which they are. */
    held: (): { shard: number; epoch: number }[] =>
      [...shards.values()].flatMap(({ number, epoch, closed }) =>
        closed.signal.aborted ? [] : { shard: number, epoch },
      ),
    /** Updates in memory, and lanes that have any. */
    depth() {
      const lanes = [...shards.values()].flatMap((shard) => [...shard.lanes.values()]);
      return { lanes: lanes.length, updates: lanes.reduce((sum, lane) => sum + lane.queue.length, 0) };
    },
  };
}

export type Lanes = ReturnType<typeof createLanes>;

/** At most `count` at once; the rest wait their turn, first come first served. */
function createSlots(count: number) {
  let free = count;
  const waiting: (() => void)[] = [];
  return {
    async use<Result>(work: () => Promise<Result>): Promise<Result> {
      if (free > 0) free -= 1;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        return await work();
      } finally {
        const next = waiting.shift();
        if (next === undefined) free += 1;
        else next();
      }
    },
  };
}
