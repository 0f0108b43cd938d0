import type { BotApi } from "../adapters/telegram/bot-api.ts";
import { findBillings, judgeEntitlement, type PayLinks } from "../billing/billing.ts";
import { addMs, type Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { Log } from "../platform/log.ts";
import { listTenants, type Tenant } from "../tenants/tenants.ts";
import { isChatClosedNow } from "./closed-chats.ts";
import { TEXTS } from "./texts.ts";

const DAY_MS = 86_400_000;
/** How many days before the end something is said, the nearest first. */
const WARN_DAYS_BEFORE = [1, 3] as const;

type WarningContext = { db: Db; clock: Clock; log: Log; botApi: BotApi | undefined; payLinks: PayLinks };
type Warning = { tenantId: Tenant["id"]; trialEndsAt: Date; daysBefore: number };

/**
 * Tells every subscriber who lives on a local trial alone that it is about to end, once each time. Nobody is left out by
 * a flag: all that run are looked at, and what they would be without the trial is judged (F55).
 * @returns how many were told.
 */
export async function warnOfTrialEnds(ctx: WarningContext, signal: AbortSignal): Promise<number> {
  if (ctx.botApi === undefined) return 0;
  const now = ctx.clock.now();
  const tenants = await listTenants(ctx.db, { status: ["provisioning", "active"] });
  const billings = await findBillings(
    ctx.db,
    tenants.map(({ id }) => id),
  );
  let told = 0;
  for (const { id, billingExempt, trialEndsAt, telegramChatId } of tenants) {
    if (signal.aborted) break;
    const daysBefore = trialEndsAt === null ? undefined : daysLeft(trialEndsAt, now);
    if (trialEndsAt === null || telegramChatId === null || daysBefore === undefined) continue;
    const facts = { billingExempt, trialEndsAt: null, billing: billings.get(id) };
    if (judgeEntitlement(facts, now).entitled) continue;
    if (await warn(ctx, ctx.botApi, telegramChatId, { tenantId: id, trialEndsAt, daysBefore })) told += 1;
  }
  return told;
}

/** Which warning is due; undefined when none is. */
function daysLeft(trialEndsAt: Date, now: Date): number | undefined {
  if (trialEndsAt <= now) return undefined;
  return WARN_DAYS_BEFORE.find((days) => trialEndsAt <= addMs(now, days * DAY_MS));
}

async function warn(ctx: WarningContext, botApi: BotApi, chatId: number, warning: Warning): Promise<boolean> {
  if (await isChatClosedNow(ctx.db, chatId)) return false;
  const claimed = await ctx.db
    .insertInto("trialWarnings")
    .values({ ...warning, sentAt: ctx.clock.now() })
    .onConflict((conflict) => conflict.doNothing())
    .returning("tenantId")
    .executeTakeFirst();
  if (claimed === undefined) return false;
  try {
    const link = await ctx.payLinks(warning.tenantId);
    await botApi.sendMessage(chatId, TEXTS.trialEnds(warning.trialEndsAt, link));
    return true;
  } catch (error) {
    // One chat's trouble must not keep the others from being told; the next sweep tries again.
    await release(ctx.db, warning);
    ctx.log.warn({ error, tenantId: warning.tenantId }, "the end of a trial could not be told");
    return false;
  }
}

async function release(db: Db, { tenantId, trialEndsAt, daysBefore }: Warning): Promise<void> {
  await db
    .deleteFrom("trialWarnings")
    .where("tenantId", "=", tenantId)
    .where("trialEndsAt", "=", trialEndsAt)
    .where("daysBefore", "=", daysBefore)
    .execute();
}
