import { randomUUID } from "node:crypto";
import type pg from "pg";
import { createBatcher } from "../../platform/batcher.ts";
import { addMs, type Clock } from "../../platform/clock.ts";
import { DAEMON_SILENCE_MS } from "../../platform/daemons.ts";
import { isDataRefused, withTransaction } from "../../platform/db.ts";
import type { DaemonId, TenantId } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import { endsWithin, pause } from "../../platform/pause.ts";
import type { Tenant } from "../../tenants/tenants.ts";
import {
  type Account,
  type Fleet,
  judgeWishes,
  type Measure,
  reachedPercents,
  type Refusal,
  type Verdict,
  type Wish,
} from "./budget.ts";
import * as store from "./meter-store.ts";
import { type Ceiling, costOf, findPrice, type ModelPrice, type PriceTable } from "./prices.ts";
import { NO_USAGE, type TokenUsage } from "./usage.ts";

export type MeterContext = {
  pool: pg.Pool;
  clock: Clock;
  log: Log;
  daemonId: DaemonId;
  prices: PriceTable;
  /** The models of each tier at the moment; no other is offered. */
  readModels(): Promise<Record<Tenant["tier"], readonly string[]>>;
};

export type Reservation = { id: string; model: string; price: ModelPrice; ceiling: Ceiling };

/**
 * How a call ended: as the provider counted it; unknown, where what is known of its prompt counts and the rest is taken as
 * it was reserved; or without anything that costs.
 */
export type CallEnd =
  | { kind: "measured"; usage: TokenUsage }
  | { kind: "unknown"; prompt?: TokenUsage }
  | { kind: "free" };

export type Meter = {
  /** Undefined for a model without a price. */
  findPrice(model: string): ModelPrice | undefined;
  /** Sets aside what the call may come to at most, or says why not. Alone or among many, no limit is overshot. */
  reserve(wish: Wish): Promise<{ kind: "reserved"; reservation: Reservation } | { kind: "refused"; refusal: Refusal }>;
  /** Turns the reservation into what was spent. Resolves when that is in the database, tried again until it is. */
  settle(reservation: Reservation, end: CallEnd): Promise<void>;
  /** Settlements that can't be written are given up: what is left is settled as lost. */
  close(): Promise<void>;
};

/** How long a call may take; what isn't settled by the time its reservation ends is taken for lost. */
export const MAX_CALL_MS = 29 * 60_000;
const RESERVED_MS = MAX_CALL_MS + 60_000;
const MAX_BATCH = 200;
const RETRY_MS = 500;
const CLOSE_MS = 5_000;

/** Reserves and settles what model calls cost, all daemons over one database. */
export function createMeter(ctx: MeterContext): Meter {
  const stopping = new AbortController();
  const pending = new Set<Promise<void>>();
  const reserver = createBatcher<Wish, Awaited<ReturnType<Meter["reserve"]>>>({
    maxItems: MAX_BATCH,
    run: (wishes) => reserveAll(ctx, wishes),
  });
  const settler = createBatcher<store.Settlement, Settled>({
    maxItems: MAX_BATCH,
    run: (items) => settleAll(ctx, items),
  });
  let priceTableKept: Promise<void> | undefined;

  async function keepPriceTable(): Promise<void> {
    priceTableKept ??= store.keepPriceTable(ctx.pool, ctx.prices, ctx.clock.now());
    try {
      await priceTableKept;
    } catch (error) {
      priceTableKept = undefined;
      throw error;
    }
  }

  async function settleUntilKept(reservation: Reservation, end: CallEnd): Promise<void> {
    const settlement = settlementOf(reservation, end);
    while (!stopping.signal.aborted) {
      try {
        const result = await settler.submit(settlement);
        if (result === "gone")
          ctx.log.warn({ reservation: reservation.id }, "a model call ended after it was settled as lost");
        return;
      } catch (error) {
        ctx.log.warn({ error, reservation: reservation.id }, "a model call could not be settled, will be tried again");
        await pause(RETRY_MS, stopping.signal);
      }
    }
  }

  return {
    findPrice: (model) => findPrice(ctx.prices, model),
    async reserve(wish) {
      await keepPriceTable();
      return reserver.submit(wish);
    },
    async settle(reservation, end) {
      const settled = settleUntilKept(reservation, end);
      pending.add(settled);
      await settled.finally(() => pending.delete(settled));
    },
    async close() {
      await endsWithin(CLOSE_MS, Promise.all(pending));
      stopping.abort();
    },
  };
}

type Facts = { accounts: Map<TenantId, Account>; fleet: Fleet };

async function reserveAll(ctx: MeterContext, wishes: Wish[]): Promise<Awaited<ReturnType<Meter["reserve"]>>[]> {
  const tenantIds = [...new Set(wishes.map(({ tenantId }) => tenantId))];
  const modelsByTier = await ctx.readModels();
  return withTransaction(ctx.pool, store.LOCK_LIMITS, async (client) => {
    const now = ctx.clock.now();
    const facts = await store.readAccounts(client, tenantIds, now);
    const isOffered = (tier: Tenant["tier"], model: string) =>
      modelsByTier[tier].includes(model) && findPrice(ctx.prices, model) !== undefined;
    const verdicts = judgeWishes(wishes, { ...facts, isOffered });
    const granted = verdicts.flatMap((verdict, index) => {
      const wish = wishes[index];
      return verdict.kind === "reserved" && wish !== undefined
        ? [{ index, row: { ...wish, id: randomUUID(), account: verdict.account } }]
        : [];
    });
    if (granted.length > 0) {
      await store.insertReservations(
        client,
        granted.map(({ row }) => row),
        {
          daemonId: ctx.daemonId,
          priceVersion: ctx.prices.version,
          reservedAt: now,
          expiresAt: addMs(now, RESERVED_MS),
        },
      );
    }
    await noteRefusals(ctx, client, { ...facts, wishes, verdicts });
    const ids = new Map(granted.map(({ index, row }) => [index, row.id]));
    return wishes.map((wish, index) => toAnswer(ctx, wish, verdicts[index], ids.get(index)));
  });
}

function toAnswer(
  { prices }: MeterContext,
  { model, ceiling }: Wish,
  verdict: Verdict | undefined,
  id: string | undefined,
) {
  const price = findPrice(prices, model);
  if (verdict?.kind === "reserved" && id !== undefined && price !== undefined)
    return { kind: "reserved" as const, reservation: { id, model, price, ceiling } };
  if (verdict?.kind === "refused") return verdict;
  throw new Error("a wish was neither granted nor refused");
}

/** Who has nothing left is told so before the next message reaches the runtime. */
async function noteRefusals(
  { clock }: MeterContext,
  client: pg.PoolClient,
  { wishes, verdicts, accounts, fleet }: Facts & { wishes: Wish[]; verdicts: Verdict[] },
): Promise<void> {
  const now = clock.now();
  const warnings = verdicts.flatMap((verdict, index): store.Warning[] => {
    const refusal = verdict.kind === "refused" ? verdict.refusal : undefined;
    if (refusal?.reason === "fleet-budget" && refusal.usedUp) {
      const allowed = fleet.allowedMicroUsd ?? 0;
      return [{ tenantId: null, month: store.utcMonthOf(now), measure: "micro-usd", percent: 100, allowed }];
    }
    const wish = wishes[index];
    const account = wish && accounts.get(wish.tenantId);
    if (refusal?.reason !== "tenant-budget" || !refusal.usedUp || account === undefined) return [];
    const { tenantId, month } = account;
    const allowed = (refusal.measure === "tokens" ? account.allowed.tokens : account.allowed.microUsd) ?? 0;
    return [{ tenantId, month, measure: refusal.measure, percent: 100, allowed }];
  });
  await noteWarnings(client, warnings, now);
}

/** Whoever has come to all of a budget is stopped. */
async function noteWarnings(client: pg.Pool | pg.PoolClient, warnings: store.Warning[], now: Date): Promise<void> {
  if (warnings.length === 0) return;
  await store.insertWarnings(client, warnings, now);
  const full = warnings.filter(({ percent }) => percent === 100);
  const stops = full.flatMap(({ tenantId, ...rest }) => (tenantId === null ? [] : [{ tenantId, ...rest }]));
  if (stops.length > 0) await store.stopTenants(client, stops, now);
  if (full.some(({ tenantId, month }) => tenantId === null && month === store.utcMonthOf(now)))
    await store.capFleet(client, now);
}

function settlementOf({ id, price, ceiling }: Reservation, end: CallEnd): store.Settlement {
  switch (end.kind) {
    case "free":
      return { id, usage: undefined, costMicroUsd: 0, isAssumed: false };
    case "measured":
      return { id, usage: end.usage, costMicroUsd: costOf(end.usage, price), isAssumed: false };
    case "unknown": {
      if (end.prompt === undefined) return assume({ id, ...ceiling });
      const usage = { ...end.prompt, outputTokens: ceiling.outputTokens };
      return { id, usage, costMicroUsd: costOf(usage, price), isAssumed: true };
    }
  }
}

/** All of what was reserved. */
function assume({ id, inputTokens, outputTokens, costMicroUsd }: Ceiling & { id: string }): store.Settlement {
  return { id, usage: { ...NO_USAGE, inputTokens, outputTokens }, costMicroUsd, isAssumed: true };
}

/** "gone": it was settled before. "refused": it can't be recorded, and is settled as it was reserved when its time is over. */
type Settled = "ended" | "gone" | "refused";

/**
 * All in one statement, and if the database refuses that, each in one of its own, so that one at fault holds up no other.
 * @throws what else goes wrong, such as a database that is away: then nothing is settled, and all are to be tried again.
 */
async function settleAll(ctx: SettleContext, items: readonly store.Settlement[]): Promise<Settled[]> {
  const [first, ...others] = items;
  if (first === undefined) return [];
  try {
    const { ended, months } = await store.settleReservations(ctx.pool, items);
    await noteSpending(ctx, months);
    return items.map(({ id }) => (ended.has(id) ? "ended" : "gone"));
  } catch (error) {
    if (!isDataRefused(error)) throw error;
    if (others.length > 0) return [...(await settleAll(ctx, [first])), ...(await settleAll(ctx, others))];
    ctx.log.error({ error, reservation: first.id }, "what a model call came to can't be recorded");
    return ["refused"];
  }
}

type SettleContext = Pick<MeterContext, "pool" | "clock" | "log">;

/** Looks at the state and not at the step to it, so that what a crash keeps from being noted is noted the next time. */
async function noteSpending(ctx: SettleContext, months: store.MonthState[]): Promise<void> {
  const warnings = months.flatMap((state) => [
    ...warningsOf(state, "tokens", state.tokens, state.allowedTokens),
    ...warningsOf(state, "micro-usd", state.microUsd, state.allowedMicroUsd),
  ]);
  try {
    await noteWarnings(ctx.pool, warnings, ctx.clock.now());
  } catch (error) {
    // What was spent is written down, and must not be again.
    ctx.log.warn({ error }, "how far budgets are used could not be noted, the next call does");
  }
}

function warningsOf(
  { tenantId, month }: store.MonthState,
  measure: Measure,
  spent: number,
  allowed: number | null,
): store.Warning[] {
  if (allowed === null) return [];
  return reachedPercents(spent, allowed).map((percent) => ({ tenantId, month, measure, percent, allowed }));
}

/** A daemon is given so long to sign on before its reservations are taken for a dead one's. */
const SIGN_ON_MS = 60_000;
const LOST_AT_ONCE = 500;

/**
 * Settles calls whose end nobody will tell, each as it was reserved and never at zero.
 * @returns how many.
 */
export async function settleLostCalls(ctx: SettleContext, signal: AbortSignal): Promise<number> {
  const wanted = { silentMs: DAEMON_SILENCE_MS, graceMs: SIGN_ON_MS, limit: LOST_AT_ONCE };
  for (let total = 0; ;) {
    const lost = await store.findLostReservations(ctx.pool, { now: ctx.clock.now(), ...wanted });
    if (lost.length === 0) return total;
    const settled = (await settleAll(ctx, lost.map(assume))).filter((result) => result === "ended").length;
    if (settled === 0) return total;
    total += settled;
    ctx.log.warn({ calls: settled }, "model calls without a known end were settled as they were reserved");
    if (signal.aborted) return total;
  }
}
