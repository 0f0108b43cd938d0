import type { Redis } from "ioredis";
import type pg from "pg";
import { createBatcher } from "../platform/batcher.ts";
import { addMs } from "../platform/clock.ts";
import type { DaemonId } from "../platform/ids.ts";
import { pause, repeat } from "../platform/pause.ts";
import { createDelivery } from "./delivery.ts";
import {
  type Entry,
  type Finish,
  findOpenLanes,
  finishUpdates,
  HINT_CHANNEL,
  type LaneKey,
  loadLanes,
  pruneUpdates,
} from "./inbox.ts";
import { createLanes, type Lanes } from "./lanes.ts";
import { keepLeases } from "./lease-keeper.ts";
import { noObserver, type RouterObserver } from "./observer.ts";
import { createRateLimit } from "./rate-limit.ts";
import { createRouteLookup } from "./routes.ts";
import { createWork, type WorkContext } from "./work.ts";

export { type Acceptor, createAcceptor } from "./acceptance.ts";
export { type Backlog, readBacklog } from "./backlog.ts";
export { type BotApiGateway, createBotApiGateway } from "./bot-api-gateway.ts";
export { closeChat, findChatClosedAt } from "./closed-chats.ts";
export { createIdMemory, ownsId, pruneKnownIds } from "./known-ids.ts";
export { type ModelCallResult, type ModelGatewayDeps, registerModelGateway } from "./model-gateway.ts";
export { createChatLookup } from "./routes.ts";
export type { RouterObserver } from "./observer.ts";
export { createRuntimeAuth, type RuntimeAuth } from "./runtime-auth.ts";

const MAX_BATCH = 1_000;
const MAX_LANES_READ = 100;
const RECONNECT_MS = 1_500;
/** Many: runtimes that hang hold theirs for 15 s each, and nobody else's chat may wait for that (F15). */
const CONCURRENCY = 1_024;
const PRUNE_AFTER_MS = 48 * 3_600_000;
const PRUNE_BATCH = 1_000;
/** About ten thousand a second: more than ever come in for long. */
const PRUNE_PAUSE_MS = 75;

export type RouterContext = Omit<WorkContext, "delivery" | "routes" | "rateLimit" | "observer"> & {
  observer?: RouterObserver;
  pool: pg.Pool;
  /** For leases alone: they must be renewed whatever the rest waits for, and a query that hangs must fail within a lease's time. */
  leasePool: pg.Pool;
  daemonId: DaemonId;
  /** Undefined: limits are kept in memory. */
  redis: Redis | undefined;
  rateLimitPerMinute: number;
};

export type Router = {
  lanes: Lanes;
  /** Ends what is under way, then gives every shard back. */
  stop(): Promise<void>;
};

/** Begins to work through the inbox, sharing its shards with the other daemons that do. */
export async function startRouter(ctx: RouterContext): Promise<Router> {
  const delivery = createDelivery();
  const observer = ctx.observer ?? noObserver;
  const finisher = createBatcher<Finish, boolean>({
    maxItems: MAX_BATCH,
    run: (items) => finishUpdates(ctx.pool, ctx.daemonId, ctx.clock.now(), items),
  });
  const loader = createBatcher<LaneKey, Entry[]>({
    maxItems: MAX_LANES_READ,
    run: (wanted) => loadLanes(ctx.pool, wanted),
  });
  const lanes = createLanes({
    process: createWork({
      ...ctx,
      observer,
      delivery,
      routes: createRouteLookup(ctx),
      rateLimit: createRateLimit({ perMinute: ctx.rateLimitPerMinute, redis: ctx.redis }),
    }),
    async finish(entry, epoch, { outcome, reason, tenantId }) {
      const kept = await finisher.submit({
        seq: entry.seq,
        lane: entry.lane,
        shard: entry.shard,
        epoch,
        outcome,
        reason: reason ?? null,
        tenantId: tenantId ?? null,
      });
      if (kept) observer.finished(outcome, latencyOf(entry, ctx.clock.now()));
      else observer.fenced();
      return kept;
    },
    findOpenLanes: (shards) => findOpenLanes(ctx.pool, shards),
    loadLane: (shard, lane, limit) => loader.submit({ shard, lane, limit }),
    concurrency: CONCURRENCY,
    log: ctx.log,
  });
  const leases = keepLeases({ ...ctx, observer }, lanes);
  const listener = listen(ctx, lanes);
  await leases.first;
  return {
    lanes,
    async stop() {
      await listener.stop();
      await leases.stop();
      await delivery.close();
    },
  };
}

function latencyOf({ acceptedAt, committedAt }: Entry, now: Date) {
  return {
    sinceAcceptedMs: now.getTime() - acceptedAt.getTime(),
    sinceCommitMs: committedAt === undefined ? undefined : performance.now() - committedAt,
  };
}

/** Hints from other daemons' acceptors, over a connection of its own that is opened again whenever it breaks. */
function listen(ctx: RouterContext, lanes: Lanes) {
  const stopping = new AbortController();
  let client: pg.PoolClient | undefined;

  async function connect(): Promise<void> {
    if (client !== undefined) return;
    try {
      const connected = await ctx.pool.connect();
      connected.on("error", drop);
      connected.on("end", drop);
      connected.on("notification", ({ payload }) => take(payload ?? ""));
      client = connected;
      await connected.query(`LISTEN ${HINT_CHANNEL}`);
    } catch (error) {
      ctx.log.warn({ error }, "hints can't be heard, will be tried again");
      drop();
    }
  }

  function drop(): void {
    client?.removeAllListeners("notification");
    client?.release(true);
    client = undefined;
  }

  let hinted = new Set<number>();
  let loading: Promise<void> | undefined;
  function take(payload: string): void {
    const held = new Set(lanes.held().map((lease) => lease.shard));
    for (const shard of payload.split(",").map(Number)) if (held.has(shard)) hinted.add(shard);
    loading ??= loadHinted();
  }
  async function loadHinted(): Promise<void> {
    while (hinted.size > 0) {
      const shards = [...hinted];
      hinted = new Set();
      await lanes.reload(shards).catch((error: unknown) => ctx.log.warn({ error }, "hinted shards could not be read"));
    }
    loading = undefined;
  }

  const loop = connect().then(() => repeat(RECONNECT_MS, stopping.signal, connect));
  return {
    async stop() {
      stopping.abort();
      await loop;
      drop();
      await loading;
    },
  };
}

/** Deletes finished updates past their keeping time, in small batches with pauses, so that acceptance hardly notices. */
export async function pruneInbox(ctx: Pick<RouterContext, "pool" | "clock">, signal: AbortSignal): Promise<number> {
  const before = addMs(ctx.clock.now(), -PRUNE_AFTER_MS);
  let from = new Date(0);
  for (let total = 0; ;) {
    const { pruned, until } = await pruneUpdates(ctx.pool, { from, before }, PRUNE_BATCH);
    total += pruned;
    if (pruned < PRUNE_BATCH || signal.aborted) return total;
    from = until;
    await pause(PRUNE_PAUSE_MS, signal);
  }
}
