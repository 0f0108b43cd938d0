import type { TenantId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { pause } from "../platform/pause.ts";
import { createSlots } from "../platform/slots.ts";
import type { Entry, OpenLane, Outcome } from "./inbox.ts";

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
  findOpenLanes: (shards: readonly number[]) => Promise<OpenLane[]>;
  /** Reads the oldest unfinished updates of a lane, at most `limit`. */
  loadLane: (shard: number, lane: number, limit: number) => Promise<Entry[]>;
  /** Tries under way at once, over all lanes. */
  concurrency: number;
  log: Log;
};

/** Updates of one lane kept in memory; the rest stay in the database until these are done. */
const LANE_CAPACITY = 100;
/** Bodies kept in memory over all lanes; above it a lane has one update at a time there. */
const CAPACITY_BYTES = 32 * 2 ** 20;
const FAILURE_DELAY_MS = 1_000;

type Lane = {
  key: number;
  queue: Entry[];
  /** The database may hold more than stands in `queue`: to be read before the lane ends. */
  spilled: boolean;
  running: boolean;
  /** What the first of `queue` has come to, while that is not recorded yet. */
  unrecorded: Finished | undefined;
};

type Shard = {
  number: number;
  epoch: number;
  lanes: Map<number, Lane>;
  /** The lanes of what is handed over while the backlog is still unknown: older updates may come first. */
  early: Set<number> | undefined;
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
  const slots = createSlots(options.concurrency);
  let heldBytes = 0;

  /** Begins work on shards just taken, once nothing begun under an earlier lease is under way: reads their backlog first. */
  async function open(leases: readonly { shard: number; epoch: number }[]): Promise<void> {
    const numbers = leases.map((lease) => lease.shard);
    if (numbers.some((number) => shards.has(number))) await close(numbers);
    for (const { shard, epoch } of leases) {
      shards.set(shard, {
        number: shard,
        epoch,
        lanes: new Map(),
        early: new Set(),
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
      for (const lane of early) readLane(state, lane);
    }
  }

  /** Stops work on shards: nothing new is begun there; settles when what was under way has ended and is recorded. */
  async function close(closing: readonly number[]): Promise<void> {
    const ending = closing.flatMap((number) => shards.get(number) ?? []);
    for (const shard of ending) shard.closed.abort();
    await Promise.all(ending.flatMap((shard) => [...shard.runs]));
    for (const shard of ending) {
      if (shards.get(shard.number) === shard) shards.delete(shard.number);
      for (const lane of shard.lanes.values()) replaceQueue(lane, []);
    }
  }

  /** A shard on which work may be begun. */
  function findOpen(number: number): Shard | undefined {
    const shard = shards.get(number);
    return shard?.closed.signal.aborted === false ? shard : undefined;
  }

  /**
   * An update that was just accepted; nothing happens when its shard is somebody else's. `behind` is the update of its
   * lane that was the newest open one then: another daemon may have accepted it, and the hint may still be on its way.
   */
  function offer(entry: Entry, behind?: number): void {
    const shard = findOpen(entry.shard);
    if (shard === undefined) return;
    if (shard.early !== undefined) shard.early.add(entry.lane);
    else if (behind === undefined || knows(shard.lanes.get(entry.lane), behind)) take(shard, entry);
    else readLane(shard, entry.lane);
  }

  function knows(lane: Lane | undefined, seq: number): boolean {
    return lane?.queue.some((known) => known.seq === seq) === true;
  }

  /** Has the lane read from the database when it is through with what it knows. */
  function readLane(shard: Shard, key: number): void {
    const lane = laneOf(shard, key);
    lane.spilled = true;
    start(shard, lane);
  }

  /** Looks for what is not known here, and has those lanes read: after a hint, and as insurance. */
  async function reload(wanted: readonly number[]): Promise<void> {
    const reading = new Set(wanted.flatMap((number) => findOpen(number) ?? []));
    const found = await options.findOpenLanes([...reading].map((shard) => shard.number));
    for (const { shard: number, lane: key, updates, newest } of found) {
      const shard = findOpen(number);
      // Taken anew since: it is read by whoever opens it.
      if (shard === undefined || !reading.has(shard)) continue;
      const lane = shard.lanes.get(key);
      if (lane === undefined || updates > lane.queue.length || !knows(lane, newest)) readLane(shard, key);
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
    if (lane.queue.length >= capacity()) lane.spilled = true;
    if (lane.spilled) return;
    // Almost always the last one; acceptors in two daemons may hand over in another order than that of acceptance.
    let place = lane.queue.length;
    while (place > 0 && (lane.queue[place - 1]?.seq ?? 0) > entry.seq) place -= 1;
    // The first may be newer than those behind it: it was under way when they turned up.
    if (lane.queue[place - 1]?.seq === entry.seq || lane.queue[0]?.seq === entry.seq) return;
    // The first is under way already.
    lane.queue.splice(lane.running ? Math.max(1, place) : place, 0, entry);
    heldBytes += entry.body.length;
  }

  function capacity(): number {
    return heldBytes < CAPACITY_BYTES ? LANE_CAPACITY : 1;
  }

  function replaceQueue(lane: Lane, entries: Entry[]): void {
    heldBytes += bytesOf(entries) - bytesOf(lane.queue);
    lane.queue = entries;
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
      lane.queue.shift();
      heldBytes -= entry.body.length;
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
    // Not waited for: the lane that tells is at work itself.
    if (shards.get(shard.number) === shard) void close([shard.number]);
    shard.closed.abort();
    return 0;
  }

  /** Reads on in a lane that has more than memory holds. */
  async function refill(lane: Lane, shard: Shard): Promise<void> {
    // Whatever is handed over from here on is either seen by this query or spills again.
    lane.spilled = false;
    const limit = capacity();
    const entries = await options.loadLane(shard.number, lane.key, limit).catch((error: unknown) => {
      options.log.error({ error }, "lane could not be read, will be tried again");
      return undefined;
    });
    if (entries === undefined) {
      lane.spilled = true;
      await pause(FAILURE_DELAY_MS, shard.closed.signal);
      return;
    }
    // What was handed over while the query ran is newer than all it found: put in order behind it.
    const known = new Set(entries.map((entry) => entry.seq));
    const handed = lane.queue.filter((entry) => !known.has(entry.seq));
    const isFull = entries.length === limit;
    if (isFull) lane.spilled = true;
    replaceQueue(lane, isFull ? entries : [...entries, ...handed].toSorted((a, b) => a.seq - b.seq));
  }

  return {
    open,
    close,
    closeAll: () => close([...shards.keys()]),
    offer,
    reload,
    holds: (number: number): boolean => findOpen(number) !== undefined,
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

function bytesOf(entries: readonly Entry[]): number {
  return entries.reduce((sum, entry) => sum + entry.body.length, 0);
}
