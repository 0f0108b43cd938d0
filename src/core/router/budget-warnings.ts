import type { BotApi } from "../adapters/telegram/bot-api.ts";
import { BotApiError } from "../adapters/telegram/bot-api.ts";
import { type BudgetWarning, claimWarnings, markWarningsTold, releaseWarnings } from "../billing/billing.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { findTenantById } from "../tenants/tenants.ts";
import { closeChat, isChatClosedNow } from "./closed-chats.ts";
import { TEXTS } from "./texts.ts";

type WarningContext = {
  db: Db;
  clock: Clock;
  log: Log;
  botApi: BotApi | undefined;
  /** For whoever counts what the operator is told. */
  observe(warning: { isFleet: boolean; percent: number }): void;
};

const MAX_AT_ONCE = 200;

/** Tells subscribers and the operator how far budgets are used, once each. @returns how many warnings were told. */
export async function tellBudgetWarnings(ctx: WarningContext, signal: AbortSignal): Promise<number> {
  const warnings = await claimWarnings(ctx.db, ctx.clock.now(), MAX_AT_ONCE);
  const left = new Set(warnings);
  let told = 0;
  try {
    for (const warning of warnings) {
      if (signal.aborted) break;
      if (!(await tell(ctx, warning))) continue;
      await markWarningsTold(ctx.db, warning.ids, ctx.clock.now());
      left.delete(warning);
      told += 1;
    }
  } finally {
    await releaseWarnings(
      ctx.db,
      [...left].flatMap(({ ids }) => ids),
    );
  }
  return told;
}

async function tell(ctx: WarningContext, { ids: _ids, tenantId, percent, ...rest }: BudgetWarning): Promise<boolean> {
  if (tenantId !== null && !(await tellSubscriber(ctx, tenantId, percent))) return false;
  ctx.observe({ isFleet: tenantId === null, percent });
  if (tenantId === null) ctx.log.error({ percent, ...rest }, "the fleet's model budget runs out");
  else ctx.log.warn({ tenantId, percent, ...rest }, "a tenant's model budget runs out");
  return true;
}

/** @returns false when it is worth another try. */
async function tellSubscriber(ctx: WarningContext, tenantId: TenantId, percent: number): Promise<boolean> {
  const chatId = (await findTenantById(ctx.db, tenantId))?.telegramChatId ?? undefined;
  if (ctx.botApi === undefined || chatId === undefined || (await isChatClosedNow(ctx.db, chatId))) return true;
  try {
    await ctx.botApi.sendMessage(chatId, percent >= 100 ? TEXTS.usedUp() : TEXTS.runningOut(percent));
    return true;
  } catch (error) {
    // One chat's trouble must not keep the others from being told.
    if (!(error instanceof BotApiError)) throw error;
    if (error.isChatClosed) await closeChat(ctx, chatId);
    ctx.log.warn({ error, tenantId }, "how far a budget is used could not be told");
    return !error.retryable;
  }
}
