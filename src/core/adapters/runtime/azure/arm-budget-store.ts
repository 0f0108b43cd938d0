import type pg from "pg";
import { URGENCIES, type Urgency } from "../runtime-driver.ts";

/**
 * What is left in the bucket for the more urgent, of what it holds beyond one call, and how many calls of others go first before it is
 * the turn of one that waits: so that the less urgent neither hold up a subscriber nor wait for ever. A wake needs no turn.
 */
const PLACES: Record<Urgency, { reserve: number; lets: number | null }> = {
  wake: { reserve: 0, lets: null },
  provision: { reserve: 0.15, lets: 5 },
  repair: { reserve: 0.3, lets: 10 },
  sweep: { reserve: 0.45, lets: 10 },
  rollout: { reserve: 0.6, lets: 20 },
};

/** From half the pace to all of it in half the time. */
const RECOVERY_MINUTES = 20;
/** The slowest pace: a part of what is configured, */
const FLOOR = 1 / 10;
/** and never less than this. */
const FLOOR_CALLS_PER_MINUTE = 2;
/** Refusals of calls that were under way together are one. */
const HALVING_SECONDS = 10;
/** Longer than it takes to come back after the wait. */
const CLAIM_SECONDS = 2;

/**
 * Budgets as they are now, by the clock of PostgreSQL; `$1` is what is configured. A bucket of a quarter of the pace that the rest
 * flows into: what it holds and what flows in during a minute are together no more than the pace. Sweeps have another
 * like it for a quarter of all calls, but always for one.
 */
function filled(rows: string): string {
  return `
  budget AS MATERIALIZED (${rows}),
  timed AS MATERIALIZED (SELECT *, clock_timestamp() AS at FROM budget),
  -- Nothing flows while Azure wants to be left alone.
  rested AS (
    SELECT *, greatest(0, extract(epoch FROM at - greatest(refilled_at, blocked_until)))::float8 / 60 AS minutes FROM timed
  ),
  paced AS (SELECT *, least($1::float8, calls_per_minute + $1 * minutes / ${RECOVERY_MINUTES}) AS pace FROM rested),
  sized AS (SELECT *, greatest(1, pace / 4) AS burst, greatest(1, pace / 16) AS sweep_burst FROM paced),
  flowing AS (SELECT *, pace - burst AS flow, greatest(pace / 4 - sweep_burst, pace / 8) AS sweep_flow FROM sized),
  filled AS (
    SELECT *,
      least(burst, tokens + flow * minutes) AS available,
      least(sweep_burst, sweep_tokens + sweep_flow * minutes) AS sweep_available,
      (SELECT coalesce(sum(calls::bigint), 0) FROM jsonb_each_text(spent) AS each(urgency, calls)) AS calls
    FROM flowing
  )`;
}

const ONE = "SELECT * FROM arm_budgets WHERE subscription_id = $2 FOR UPDATE";

/**
 * `$3` asks, and waits `$4` seconds at most if need be; `$5`: the urgencies, the most urgent first; `$6`, `$7`: its place. Whose turn it
 * is claims the next call while it waits; others leave it that, but for the more urgent ones of those.
 */
const CLAIM = `
WITH ${filled(ONE)},
placed AS (SELECT *, coalesce(calls - (waiting -> $3 ->> 'since')::bigint >= $7, false) AS is_turn FROM filled),
weighed AS (
  SELECT *, 1 + CASE WHEN is_turn THEN 0 ELSE $6 * (burst - 1) END + (
    SELECT count(*) FROM jsonb_each(waiting) AS other(urgency, place)
    WHERE other.urgency <> $3 AND (place ->> 'until')::timestamptz > at
      AND (NOT is_turn OR array_position($5::text[], other.urgency) < array_position($5::text[], $3))
  ) AS needed FROM placed
),
timely AS (
  SELECT *, 60 * greatest(
    0,
    extract(epoch FROM blocked_until - at)::float8 / 60,
    (needed - available) / flow,
    CASE WHEN $3 = 'sweep' THEN (1 - sweep_available) / sweep_flow END
  ) AS seconds FROM weighed
)
UPDATE arm_budgets SET
  refilled_at = at,
  calls_per_minute = pace,
  tokens = available - CASE WHEN seconds = 0 THEN 1 ELSE 0 END,
  sweep_tokens = sweep_available - CASE WHEN seconds = 0 AND $3 = 'sweep' THEN 1 ELSE 0 END,
  spent = CASE
    WHEN seconds = 0 THEN timely.spent || jsonb_build_object($3, coalesce((timely.spent ->> $3)::bigint, 0) + 1)
    ELSE timely.spent
  END,
  waiting = CASE
    WHEN seconds = 0 THEN timely.waiting - $3
    WHEN available < needed THEN timely.waiting || jsonb_build_object($3, jsonb_build_object(
      'since', coalesce((timely.waiting -> $3 ->> 'since')::bigint, calls),
      'until', CASE WHEN is_turn AND seconds <= $4 THEN at + (seconds + ${CLAIM_SECONDS}) * interval '1 second' END
    ))
    ELSE timely.waiting
  END
FROM timely WHERE arm_budgets.subscription_id = timely.subscription_id
RETURNING seconds, coalesce(timely.blocked_until > at, false) AS is_blocked`;

export type BudgetKey = { subscriptionId: string; callsPerMinute: number };

/**
 * Takes one call from the budget, if there is one for this urgency.
 * @returns `waitMs` is 0 when it was taken, else the time after which it is worth trying again.
 */
export async function claimCall(
  pool: pg.Pool,
  { subscriptionId, callsPerMinute }: BudgetKey,
  { urgency, patienceMs }: { urgency: Urgency; patienceMs: number },
): Promise<{ waitMs: number; isBlocked: boolean }> {
  const { reserve, lets } = PLACES[urgency];
  const values = [callsPerMinute, subscriptionId, urgency, patienceMs / 1_000, URGENCIES, reserve, lets];
  const { rows } = await pool.query<{ seconds: number; is_blocked: boolean }>({
    name: "claim-arm-call",
    text: CLAIM,
    values,
  });
  const [row] = rows;
  if (row !== undefined) return { waitMs: Math.ceil(1_000 * row.seconds), isBlocked: row.is_blocked };
  await addBudget(pool, { subscriptionId, callsPerMinute });
  return claimCall(pool, { subscriptionId, callsPerMinute }, { urgency, patienceMs });
}

/** Starts full, as nobody has called yet; one that is there stays. */
async function addBudget(pool: pg.Pool, { subscriptionId, callsPerMinute }: BudgetKey): Promise<void> {
  await pool.query(
    `INSERT INTO arm_budgets (subscription_id, tokens, sweep_tokens, refilled_at, calls_per_minute)
     VALUES ($1, $2, $2, clock_timestamp(), $2) ON CONFLICT DO NOTHING`,
    [subscriptionId, callsPerMinute],
  );
}

/** `$3`: for so many seconds nobody calls. Afterwards one call goes first, to see. */
const THROTTLE = `
WITH ${filled(ONE)},
judged AS (
  SELECT *, coalesce(at > blocked_until, true) AND coalesce(at > halved_at + interval '${HALVING_SECONDS} seconds', true) AS is_new
  FROM filled
)
UPDATE arm_budgets SET
  refilled_at = at,
  calls_per_minute = CASE WHEN is_new THEN greatest(pace / 2, $1 * ${FLOOR}, ${FLOOR_CALLS_PER_MINUTE}) ELSE pace END,
  halved_at = CASE WHEN is_new THEN at ELSE judged.halved_at END,
  tokens = least(available, 1),
  sweep_tokens = sweep_available,
  blocked_until = greatest(judged.blocked_until, at + $3 * interval '1 second'),
  throttled = judged.throttled + 1
FROM judged WHERE arm_budgets.subscription_id = judged.subscription_id
RETURNING is_new, arm_budgets.calls_per_minute`;

/** Notes that Azure refused a call for want of patience. @returns whether that made the pace slower, and the pace. */
export async function recordThrottling(
  pool: pg.Pool,
  { subscriptionId, callsPerMinute }: BudgetKey,
  blockMs: number,
): Promise<{ isSlower: boolean; callsPerMinute: number }> {
  await addBudget(pool, { subscriptionId, callsPerMinute });
  const { rows } = await pool.query<{ is_new: boolean; calls_per_minute: number }>(THROTTLE, [
    callsPerMinute,
    subscriptionId,
    blockMs / 1_000,
  ]);
  const [row] = rows;
  if (row === undefined) throw new Error(`The budget of the subscription ${subscriptionId} is gone`);
  return { isSlower: row.is_new, callsPerMinute: row.calls_per_minute };
}

export type ArmBudgetState = {
  subscriptionId: string;
  /** Calls that may be made at once. */
  remaining: number;
  /** At the moment; no more than configured. */
  callsPerMinute: number;
  /** Nobody calls until then, and for so long. */
  blockedUntil: Date | undefined;
  blockedMs: number;
  /** Since the beginning, by all daemons. */
  spent: Readonly<Record<Urgency, number>>;
  throttled: number;
};

/** Every budget that was ever used. */
export async function readBudgets(pool: pg.Pool, callsPerMinute: number): Promise<ArmBudgetState[]> {
  const { rows } = await pool.query<BudgetRow>(
    `WITH ${filled("SELECT * FROM arm_budgets")}
     SELECT subscription_id, available, pace, spent, throttled,
       CASE WHEN blocked_until > at THEN blocked_until END AS blocked_until,
       coalesce(greatest(0, extract(epoch FROM blocked_until - at)::float8), 0) AS blocked_seconds
     FROM filled ORDER BY subscription_id`,
    [callsPerMinute],
  );
  return rows.map((row) => ({
    subscriptionId: row.subscription_id,
    remaining: row.available,
    callsPerMinute: row.pace,
    blockedUntil: row.blocked_until ?? undefined,
    blockedMs: Math.ceil(1_000 * row.blocked_seconds),
    spent: { ...NOTHING_SPENT, ...row.spent },
    throttled: row.throttled,
  }));
}

type BudgetRow = {
  subscription_id: string;
  available: number;
  pace: number;
  spent: Partial<Record<Urgency, number>>;
  throttled: number;
  blocked_until: Date | null;
  blocked_seconds: number;
};

const NOTHING_SPENT: Record<Urgency, number> = { wake: 0, provision: 0, repair: 0, sweep: 0, rollout: 0 };
