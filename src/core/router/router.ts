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
import { createRateLimit } from "./rate-limit.ts";
import { createRouteLookup } from "./routes.ts";
import { LEASE_MS, releaseLeases, renewLeases } from "./shard-leases.ts";
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
const RENEW_MS = 1_500;
const RELOAD_MS = 5_000;
const CONCURRENCY = 128;
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
      const seqs = await insertUpdates(ctx.pool, items);
      const elsewhere = new Set<number>();
      items.forEach((item, index) => {
        const seq = seqs[index];
        if (seq !== undefined && lanes?.offer({ ...item, seq }) !== true) elsewhere.add(item.shard);
      });
      if (elsewhere.size > 0) hint(ctx, elsewhere);
      return seqs.map((seq) => seq !== undefined);
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
      const held = lanes.held().map((lease) => lease.shard);
      await lanes.close(held);
      await releaseLeases(ctx.pool, ctx.daemonId, held);
      await delivery.close();
    },
  };
}

/** Renews the leases in a loop, opens what was won, closes what was lost or is more than the fair share. */
function keepLeases(ctx: RouterContext, lanes: Lanes) {
  const stopping = new AbortController();
  let lastSuccess = performance.now();

  async function renew(): Promise<void> {
    const begun = performance.now();
    const { held, excess } = await renewLeases(ctx.pool, ctx.daemonId);
    lastSuccess = begun;
    const known = new Map(lanes.held().map((lease) => [lease.shard, lease.epoch]));
    const stillHeld = new Map(held.map((lease) => [lease.shard, lease.epoch]));
    const lost = [...known].filter(([shard, epoch]) => stillHeld.get(shard) !== epoch).map(([shard]) => shard);
    if (lost.length > 0) {
      ctx.log.warn({ shards: lost.length }, "shards were lost");
      await lanes.close(lost);
    }
    if (excess > 0) await giveBack([...stillHeld.keys()].slice(0, excess));
    const won = held.filter(
      (lease) => known.get(lease.shard) !== lease.epoch && lanesMayOpen(lease.shard, held, excess),
    );
    if (won.length > 0) await lanes.open(won);
  }

  function lanesMayOpen(shard: number, held: readonly { shard: number }[], excess: number): boolean {
    return !held.slice(0, excess).some((lease) => lease.shard === shard);
  }

  async function giveBack(shards: readonly number[]): Promise<void> {
    await lanes.close(shards);
    await releaseLeases(ctx.pool, ctx.daemonId, shards);
  }

  async function tick(): Promise<void> {
    try {
      await renew();
    } catch (error) {
      ctx.log.error({ error }, "leases could not be renewed, will be tried again");
      // Somebody else may hold them by now.
      if (performance.now() - lastSuccess > LEASE_MS) await lanes.close(lanes.held().map((lease) => lease.shard));
    }
  }

  const first = tick();
  const loop = first.then(() => repeat(RENEW_MS, stopping.signal, tick));
  const insurance = first.then(() =>
    repeat(RELOAD_MS, stopping.signal, async () => {
      await lanes
        .reload(lanes.held().map((lease) => lease.shard))
        .catch((error: unknown) => ctx.log.error({ error }, "backlog could not be read, will be tried again"));
    }),
  );
  return {
    first,
    async stop() {
      stopping.abort();
      await Promise.all([loop, insurance]);
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

  const loop = connect().then(() => repeat(RENEW_MS, stopping.signal, connect));
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
