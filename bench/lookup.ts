import { randomInt, randomUUID } from "node:crypto";
import type { DaemonId } from "../src/core/platform/ids.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import { finishUpdates, insertUpdates } from "../src/core/router/inbox.ts";
import { createRouteLookup } from "../src/core/router/routes.ts";
import { shardOf } from "../src/core/router/update.ts";
import { median, round } from "../scripts/load/figures.ts";
import { type Stage, withStage } from "../scripts/load/stage.ts";

const FIRST_CHAT = 1_000_001;
/** Lookups under way at once: each alone, as at a steady pace, and as many as share a query under full load. */
const LOOKUPS_AT_ONCE = [1, 10, 100];
/** Updates under way at once. */
const AT_ONCE = 100;
/** Long enough to have the chats' rows in memory. */
const WARM_UP_SECONDS = 15;
const BODY = Buffer.alloc(300, "x");

/** One cost for each of LOOKUPS_AT_ONCE. */
type Run = { lookupMicros: number[]; laneMicros: number };

export type LookupOptions = { rounds: number; seconds: number; sizes: readonly number[] };

/**
 * What finding a chat's route costs, and keeping and finishing an update of it, in a database with so many tenants, each
 * with a runtime and every other with a subscription. The chats are drawn at random from all, which lie in memory. The
 * databases take turns.
 */
export async function benchLookup({ rounds, seconds, sizes }: LookupOptions) {
  return withStages(sizes.length, async (stages) => {
    const contestants = sizes.map((tenants, index) => ({ tenants, stage: at(stages, index), runs: [] as Run[] }));
    for (const { stage, tenants } of contestants) {
      await fill(stage, tenants);
      await measureLookups(stage, tenants, AT_ONCE, WARM_UP_SECONDS);
    }
    for (let turn = 0; turn < rounds; turn += 1) {
      for (const { stage, tenants, runs } of contestants) {
        const lookupMicros: number[] = [];
        for (const atOnce of LOOKUPS_AT_ONCE) lookupMicros.push(await measureLookups(stage, tenants, atOnce, seconds));
        runs.push({ lookupMicros, laneMicros: await measureLanes(stage, tenants, seconds) });
      }
    }
    const [smallest, largest] = [at(contestants, 0), at(contestants, -1)];
    const ratio = (cost: (run: Run) => number) =>
      round(median(largest.runs.map((run, turn) => cost(run) / cost(at(smallest.runs, turn)))));
    return {
      bench: "lookup",
      rounds,
      seconds,
      lookups: LOOKUPS_AT_ONCE.map((atOnce, index) => ({
        atOnce,
        micros: contestants.map(({ tenants, runs }) => ({
          tenants,
          each: round(median(runs.map(({ lookupMicros }) => at(lookupMicros, index)))),
        })),
        ofSmallest: ratio(({ lookupMicros }) => at(lookupMicros, index)),
      })),
      lanes: {
        atOnce: AT_ONCE,
        micros: contestants.map(({ tenants, runs }) => ({
          tenants,
          each: round(median(runs.map((run) => run.laneMicros))),
        })),
        ofSmallest: ratio((run) => run.laneMicros),
      },
    };
  });
}

async function withStages<Result>(howMany: number, work: (stages: Stage[]) => Promise<Result>): Promise<Result> {
  if (howMany === 0) return work([]);
  return withStage((stage) => withStages(howMany - 1, (others) => work([stage, ...others])));
}

function at<Item>(items: readonly Item[], index: number): Item {
  const item = items.at(index);
  if (item === undefined) throw new RangeError(`there is no item ${index}`);
  return item;
}

/** @returns microseconds for each lookup. */
async function measureLookups({ pool }: Stage, tenants: number, atOnce: number, seconds: number): Promise<number> {
  const routes = createRouteLookup({ pool, clock: systemClock });
  return measure(seconds, atOnce, async () => {
    const chats = Array.from({ length: atOnce }, () => FIRST_CHAT + randomInt(tenants));
    const found = await Promise.all(chats.map((chat) => routes.submit(chat)));
    if (found.some((route) => route?.runtime === undefined)) throw new Error("a chat leads nowhere");
  });
}

/** @returns microseconds for each update kept and finished. */
async function measureLanes({ pool }: Stage, tenants: number, seconds: number): Promise<number> {
  const owner = randomUUID() as DaemonId;
  await pool.query("UPDATE router_shards SET owner = $1, epoch = epoch + 1", [owner]);
  const { rows } = await pool.query<{ epoch: number; last: number }>(
    "SELECT max(epoch) AS epoch, (SELECT coalesce(max(update_id), 0) FROM telegram_updates) AS last FROM router_shards",
  );
  const epoch = rows[0]?.epoch ?? 0;
  let updateId = rows[0]?.last ?? 0;
  return measure(seconds, AT_ONCE, async () => {
    const items = Array.from({ length: AT_ONCE }, () => {
      const lane = FIRST_CHAT + randomInt(tenants);
      updateId += 1;
      return { updateId, lane, shard: shardOf(lane), body: BODY };
    });
    const places = await insertUpdates(pool, { botId: 1, acceptedAt: new Date(), items, hint: [] }, "fail");
    const finished = items.map(({ lane, shard }, index) => ({
      seq: places[index]?.seq ?? 0,
      lane,
      shard,
      epoch,
      outcome: "delivered" as const,
      reason: null,
      tenantId: null,
    }));
    const passed = await finishUpdates(pool, owner, new Date(), finished);
    if (!passed.every(Boolean)) throw new Error("an update could not be finished");
  });
}

/** @returns microseconds for each of the `atOnce` that `work` does. */
async function measure(seconds: number, atOnce: number, work: () => Promise<void>): Promise<number> {
  const begun = performance.now();
  let done = 0;
  for (; performance.now() - begun < seconds * 1_000; done += atOnce) await work();
  return ((performance.now() - begun) * 1_000) / done;
}

async function fill({ pool }: Stage, tenants: number): Promise<void> {
  await pool.query(
    `INSERT INTO tenants (id, stamp_id, slug, display_name, email, telegram_chat_id, telegram_user_id, billing_exempt,
       status, status_changed_at, created_at, updated_at)
     SELECT gen_random_uuid(), 'default', 'chat-' || n, 'Chat ' || n, n || '@example.com', $1 + n, $1 + n, n % 2 = 0,
       'active', now(), now(), now()
     FROM generate_series(0, $2::integer - 1) AS n`,
    [FIRST_CHAT, tenants],
  );
  await pool.query(
    `INSERT INTO runtimes (tenant_id, driver, state, address, image, spec_hash, allowed_user_id, healthy_at, observed_at)
     SELECT id, 'memory', 'running', 'http://127.0.0.1:9', 'image:1', 'hash', telegram_user_id, now(), now() FROM tenants`,
  );
  await pool.query(
    "INSERT INTO tenant_billing (tenant_id, stripe_customer_id, updated_at) SELECT id, 'cus_' || slug, now() FROM tenants",
  );
  await pool.query(
    `INSERT INTO stripe_subscriptions (id, tenant_id, customer_id, status, price_id, started_at, updated_at)
     SELECT 'sub_' || slug, id, 'cus_' || slug, 'active', 'price_basic', now(), now() FROM tenants WHERE NOT billing_exempt`,
  );
  await pool.query("VACUUM ANALYZE");
}
