import type pg from "pg";
import { createBatcher } from "../platform/batcher.ts";
import type { Clock } from "../platform/clock.ts";
import { isUniqueViolation } from "../platform/db.ts";
import { UpstreamError } from "../platform/errors.ts";
import { type Batch, type Incoming, insertUpdates } from "./inbox.ts";
import type { Lanes } from "./lanes.ts";
import { laneOf, parseUpdate, readFacts, shardOf } from "./update.ts";

const PATIENCE_MS = 5_000;
const MAX_BATCH = 1_000;
const MAX_WAITING = 20_000;
const CAREFUL_MS = 10_000;

export type AcceptorContext = { pool: pg.Pool; clock: Clock; botId: number };

export type Acceptor = {
  /**
   * Keeps the update that `body` holds; settles after the commit.
   * @throws UsageError for a body that is no update, UpstreamError when it could not be committed in time.
   */
  accept(body: Buffer): Promise<"accepted" | "duplicate">;
};

/**
 * Accepts updates for a bot, those that arrive while a commit is under way with the next. With `lanes` of the same
 * process, what was accepted goes there without a detour.
 */
export function createAcceptor(ctx: AcceptorContext, lanes: Pick<Lanes, "offer" | "holds"> | undefined): Acceptor {
  const { botId } = ctx;
  const insert = createInsert(ctx.pool);
  const batcher = createBatcher<Incoming, "accepted" | "duplicate">({
    maxItems: MAX_BATCH,
    patience: { ms: PATIENCE_MS, error: () => notAccepted("the database did not commit in time") },
    async run(items) {
      const acceptedAt = ctx.clock.now();
      const hint = new Set(items.map((item) => item.shard).filter((shard) => lanes?.holds(shard) !== true));
      const places = await insert({ botId, acceptedAt, items, hint: [...hint] });
      const committedAt = performance.now();
      return items.map((item, index) => {
        const place = places[index];
        if (place === undefined) return "duplicate";
        // Given away meanwhile: the new owner reads what is there when it opens the shard.
        lanes?.offer({ ...item, seq: place.seq, botId, acceptedAt, committedAt }, place.behind);
        return "accepted";
      });
    },
  });
  return {
    async accept(body) {
      const update = parseUpdate(body);
      const lane = laneOf(readFacts(update));
      if (batcher.waiting >= MAX_WAITING) throw notAccepted("too many updates wait for the database");
      try {
        return await batcher.submit({ updateId: update.updateId, lane, shard: shardOf(lane), body });
      } catch (error) {
        throw error instanceof UpstreamError ? error : notAccepted("the database refused the update", error);
      }
    },
  };
}

/** Takes updates for new until one is not: Telegram repeats itself only when something went wrong, and then often. */
function createInsert(pool: pg.Pool) {
  let carefulUntil = 0;
  return async (batch: Batch) => {
    if (performance.now() < carefulUntil) return insertUpdates(pool, batch, "skip");
    try {
      return await insertUpdates(pool, batch, "fail");
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
      carefulUntil = performance.now() + CAREFUL_MS;
      return insertUpdates(pool, batch, "skip");
    }
  };
}

function notAccepted(message: string, cause?: unknown): UpstreamError {
  return new UpstreamError("not_accepted", message, { service: "postgres", retryable: true, cause });
}
