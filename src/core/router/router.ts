import type { Redis } from "ioredis";
import type pg from "pg";
import { createBatcher } from "../platform/batcher.ts";
import { addMs } from "../platform/clock.ts";
import { UpstreamError } from "../platform/errors.ts";
import type { DaemonId } from "../platform/ids.ts";
import { repeat } from "../platform/pause.ts";
import { createDelivery } from "./delivery.ts";
import {
  type Finish,
  finishUpdates,
  type Incoming,
  insertUpdates,
  loadLane,
  loadShards,
  pruneUpdates,
} from "./inbox.ts";
import { createLanes, type Lanes } from "./lanes.ts";
import { keepLeases } from "./lease-keeper.ts";
import { createRateLimit } from "./rate-limit.ts";
import { createRouteLookup } from "./routes.ts";
import { laneOf, parseUpdate, readFacts, shardOf } from "./update.ts";
import { createWork, type WorkContext } from "./work.ts";

export { registerBotApiGateway } from "./bot-api-gateway.ts";
export { ownsId, pruneKnownIds, rememberIds } from "./known-ids.ts";
export { registerModelGateway } from "./model-gateway.ts";
export { createRuntimeAuth } from "./runtime-auth.ts";

/** The channel on which acceptors tell the owners of shards that there is something new. */
const CHANNEL = "openclaw_router";
const ACCEPT_TIMEOUT_MS = 5_000;
const MAX_BATCH = 1_000;
const MAX_WAITING = 20_000;
const RECONNECT_MS = 1_500;
/** Many: runtimes that hang hold theirs for 15 s each, and nobody else's chat may wait for that (F15). */
const CONCURRENCY = 1_024;
const PRUNE_AFTER_MS = 48 * 3_600_000;
const PRUNE_BATCH = 5_000;

export type AcceptorContext = Pick<WorkContext, "clock" | "log"> & { pool: pg.Pool; botId: number };

export type Acceptor = {
  /**
   * Keeps the update that `body` holds; settles after the commit.
   * @throws UsageError for a body that is no update, UpstreamError when it could not be committed in time.
   */
  accept(body: Buffer): Promise<"accepted" | "duplicate">;
};

/** Accepts updates for a bot. With `lanes` of the same process, what was accepted goes there without a detour. */
export function createAcceptor(ctx: AcceptorContext, lanes: Pick<Lanes, "offer"> | undefined): Acceptor {
  const batcher = createBatcher<Incoming, boolean>({
    maxItems: MAX_BATCH,
    async run(items) {
      const accepted = await insertUpdates(ctx.pool, items);
      const elsewhere = new Set<number>();
      items.forEach((item, index) => {
        const place = accepted[index];
        if (place === undefined) return;
        if (lanes?.offer({ ...item, seq: place.seq }, place.behind) !== true) elsewhere.add(item.shard);
      });
      if (elsewhere.size > 0) hint(ctx, elsewhere);
      return accepted.map((place) => place !== undefined);
    },
  });
  return {
    async accept(body) {
      const update = parseUpdate(body);
      const lane = laneOf(readFacts(update));
      if (batcher.waiting >= MAX_WAITING) throw notAccepted("too many updates wait for the database");
      const item = {
        botId: ctx.botId,
        updateId: update.updateId,
        lane,
        shard: shardOf(lane),
        body,
        acceptedAt: ctx.clock.now(),
      };
      const isNew = await withinTime(batcher.submit(item));
      return isNew ? "accepted" : "duplicate";
    },
  };
}

/** A lost hint costs seconds, not updates: owners look for themselves as well. */
function hint(ctx: AcceptorContext, shards: ReadonlySet<number>): void {
  ctx.pool
    .query("SELECT pg_notify($1, $2)", [CHANNEL, [...shards].join(",")])
    .catch((error: unknown) => ctx.log.warn({ error }, "hint to other daemons failed"));
}

async function withinTime(accepted: Promise<boolean>): Promise<boolean> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(notAccepted("the database did not commit in time")), ACCEPT_TIMEOUT_MS);
  try {
    return await Promise.race([accepted, late.promise]);
  } catch (error) {
    throw error instanceof UpstreamError ? error : notAccepted("the database refused the update", error);
  } finally {
    clearTimeout(timer);
  }
}

function notAccepted(message: string, cause?: unknown): UpstreamError {
  return new UpstreamError("not_accepted", message, { service: "postgres", retryable: true, cause });
}

export type RouterContext = Omit<WorkContext, "delivery" | "routes" | "rateLimit"> & {
  pool: pg.Pool;
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
  const finisher = createBatcher<Finish, boolean>({
    maxItems: MAX_BATCH,
    run: (items) => finishUpdates(ctx.pool, ctx.daemonId, ctx.clock.now(), items),
  });
  const lanes = createLanes({
    process: createWork({
      ...ctx,
      delivery,
      routes: createRouteLookup(ctx),
      rateLimit: createRateLimit({ perMinute: ctx.rateLimitPerMinute, redis: ctx.redis }),
    }),
    finish: (entry, epoch, { outcome, reason, tenantId }) =>
      finisher.submit({
        seq: entry.seq,
        shard: entry.shard,
        epoch,
        outcome,
        reason: reason ?? null,
        tenantId: tenantId ?? null,
      }),
    loadShards: (shards, perLane) => loadShards(ctx.pool, shards, perLane),
    loadLane: (shard, lane, afterSeq, limit) => loadLane(ctx.pool, shard, lane, afterSeq, limit),
    concurrency: CONCURRENCY,
    log: ctx.log,
  });
  const leases = keepLeases(ctx, lanes);
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
      await connected.query(`LISTEN ${CHANNEL}`);
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

/** Deletes finished updates past their keeping time, in small batches. */
export async function pruneInbox(ctx: Pick<RouterContext, "pool" | "clock">, signal: AbortSignal): Promise<number> {
  const before = addMs(ctx.clock.now(), -PRUNE_AFTER_MS);
  let pruned = 0;
  for (;;) {
    const batch = await pruneUpdates(ctx.pool, before, PRUNE_BATCH);
    pruned += batch;
    if (batch < PRUNE_BATCH || signal.aborted) return pruned;
  }
}
