import type { TenantId } from "../../platform/ids.ts";
import type { Tenant } from "../../tenants/tenants.ts";
import type { Ceiling } from "./prices.ts";

type Tier = Tenant["tier"];

export type Measure = "tokens" | "micro-usd";
export type Amount = { tokens: number; microUsd: number };
/** NULL: no limit. */
export type Allowance = { tokens: number | null; microUsd: number | null };

/** A tenant's spending in its own month. */
export type Account = {
  tenantId: TenantId;
  tier: Tier;
  /** YYYY-MM in the tenant's time zone. */
  month: string;
  /** Why nothing may be spent at all; undefined when the tenant may run. */
  barred: string | undefined;
  allowed: Allowance;
  spent: Amount;
  /** By calls under way. */
  reserved: Amount;
};

/** All tenants' spending in the month of UTC. */
export type Fleet = {
  allowedMicroUsd: number | null;
  spentMicroUsd: number;
  reservedMicroUsd: number;
  stoppedReason: string | undefined;
};

export type Wish = { tenantId: TenantId; model: string; ceiling: Ceiling };

export type Refusal =
  /** The tenant may not run, or is unknown. */
  | { reason: "barred"; message: string }
  | { reason: "model-not-offered"; message: string }
  /** The kill switch. */
  | { reason: "stopped"; message: string }
  | { reason: "fleet-budget"; message: string; usedUp: boolean }
  /** `usedUp`: it isn't only this call, or others under way, that are too much. */
  | { reason: "tenant-budget"; message: string; measure: Measure; usedUp: boolean };

export type Verdict = { kind: "reserved"; account: Account } | { kind: "refused"; refusal: Refusal };

/** A call that may come to more than this part of a budget says nothing about the budget when it doesn't fit. */
const ORDINARY_PART = 1 / 8;
const ORDINARY_PART_OF_FLEET = 1 / 100;

/**
 * Which of the wishes fit, taken in their order: each finds reserved what those before it were given. A pure function; its
 * facts must not change until its verdicts are written down.
 */
export function judgeWishes(
  wishes: readonly Wish[],
  facts: {
    accounts: ReadonlyMap<TenantId, Account>;
    fleet: Fleet;
    isOffered(tier: Tier, model: string): boolean;
  },
): Verdict[] {
  const accounts = new Map(facts.accounts);
  let fleet = facts.fleet;
  return wishes.map((wish): Verdict => {
    const account = accounts.get(wish.tenantId);
    if (account === undefined) return refuse({ reason: "barred", message: "There is no such tenant." });
    const refusal = findRefusal(wish, account, fleet, facts.isOffered);
    if (refusal !== undefined) return refuse(refusal);
    const { inputTokens, outputTokens, costMicroUsd } = wish.ceiling;
    accounts.set(wish.tenantId, {
      ...account,
      reserved: {
        tokens: account.reserved.tokens + inputTokens + outputTokens,
        microUsd: account.reserved.microUsd + costMicroUsd,
      },
    });
    fleet = { ...fleet, reservedMicroUsd: fleet.reservedMicroUsd + costMicroUsd };
    return { kind: "reserved", account };
  });
}

function findRefusal(
  { model, ceiling }: Wish,
  account: Account,
  fleet: Fleet,
  isOffered: (tier: Tier, model: string) => boolean,
): Refusal | undefined {
  const { barred, tier, allowed, spent, reserved } = account;
  if (barred !== undefined)
    return { reason: "barred", message: `The subscription does not allow this call: ${barred}.` };
  if (!isOffered(tier, model))
    return { reason: "model-not-offered", message: `The model ${JSON.stringify(model)} is not part of this plan.` };
  if (fleet.stoppedReason !== undefined)
    return { reason: "stopped", message: "Model calls are stopped by the operator at the moment." };
  const tokens = ceiling.inputTokens + ceiling.outputTokens;
  const shortOfTokens = findShortage(allowed.tokens, spent.tokens, reserved.tokens, tokens);
  if (shortOfTokens !== undefined) return tenantBudget("tokens", shortOfTokens);
  const shortOfMoney = findShortage(allowed.microUsd, spent.microUsd, reserved.microUsd, ceiling.costMicroUsd);
  if (shortOfMoney !== undefined) return tenantBudget("micro-usd", shortOfMoney);
  const { allowedMicroUsd, spentMicroUsd, reservedMicroUsd } = fleet;
  const ofFleet = findShortage(
    allowedMicroUsd,
    spentMicroUsd,
    reservedMicroUsd,
    ceiling.costMicroUsd,
    ORDINARY_PART_OF_FLEET,
  );
  if (ofFleet === undefined) return undefined;
  const message = "What the service may spend on models this month has no room for this call.";
  return { reason: "fleet-budget", message, ...ofFleet };
}

/** Undefined when it fits. */
function findShortage(
  allowed: number | null,
  spent: number,
  reserved: number,
  wanted: number,
  ordinaryPart = ORDINARY_PART,
): { usedUp: boolean } | undefined {
  if (allowed === null || spent + reserved + wanted <= allowed) return undefined;
  return { usedUp: spent >= allowed || (reserved === 0 && wanted <= allowed * ordinaryPart) };
}

function tenantBudget(measure: Measure, { usedUp }: { usedUp: boolean }): Refusal {
  const budget = `This assistant's ${measure === "tokens" ? "token" : "money"} budget of the month`;
  const message = usedUp ? `${budget} is used up.` : `${budget} has no room for all that this call may need.`;
  return { reason: "tenant-budget", message, measure, usedUp };
}

function refuse(refusal: Refusal): Verdict {
  return { kind: "refused", refusal };
}

export const WARNING_PERCENTS = [80, 90, 100] as const;
export type WarningPercent = (typeof WARNING_PERCENTS)[number];

/** The warnings that `spent` has reached, in rising order. */
export function reachedPercents(spent: number, allowed: number | null): WarningPercent[] {
  if (allowed === null) return [];
  return WARNING_PERCENTS.filter((percent) => spent * 100 >= allowed * percent);
}
