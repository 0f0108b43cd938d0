import type { StripeNews } from "../adapters/stripe/stripe-event.ts";
import { writeAudit } from "../platform/audit.ts";
import { ConflictError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import { setTier, type Tenant } from "../tenants/tenants.ts";
import { applyEffect, type BillingContext, judgeTenant } from "./apply.ts";
import { billingOf, type Book, openBook, type Page, putPage, saveBook } from "./book.ts";
import { type Occasion, planStatusEffect } from "./effects.ts";
import type { Billing } from "./entitlement.ts";
import { findSubjects, postNews } from "./post-news.ts";
import { type NewsSource, type Prices, pricedAt } from "./subscription.ts";

export type ProjectionContext = BillingContext & { prices: Prices };

/** One piece of news with the event that brought it; undefined when the event is none of ours. */
export type Item = { news: StripeNews | undefined; source: NewsSource };

export type Outcome =
  | { status: "projected"; tenantId: TenantId }
  | { status: "ignored" | "unmatched"; tenantId: null }
  | { status: "refused"; error: ConflictError };

/** One outcome for each item, and the lanes whose unmatched events may find their tenant now. */
export type Projected = { outcomes: Outcome[]; revivedLanes: string[] };

/**
 * Applies news one after the other with everything that follows from it, in `ctx.db`'s transaction, which must hold the
 * events' lanes. News that contradicts what is known is `refused`, and changes nothing.
 */
export async function projectNews(ctx: ProjectionContext, items: readonly Item[]): Promise<Projected> {
  const book = await openBook(
    ctx.db,
    items.flatMap(({ news }) => news ?? []),
  );
  const before = new Map(book.pages);
  const revivedLanes = new Set<string>();
  const outcomes: Outcome[] = [];
  for (const item of items) outcomes.push(await projectOne(ctx, book, revivedLanes, item));
  await saveBook(ctx.db, before, book, ctx.clock.now());
  return { outcomes, revivedLanes: [...revivedLanes] };
}

async function projectOne(
  ctx: ProjectionContext,
  book: Book,
  revivedLanes: Set<string>,
  { news, source }: Item,
): Promise<Outcome> {
  if (news === undefined) return { status: "ignored", tenantId: null };
  const subjects = findSubjects(book, news);
  const [first] = subjects;
  // What would change nothing needs nobody to be found for it.
  if (first === undefined) return { status: news.kind === "note" ? "ignored" : "unmatched", tenantId: null };
  try {
    for (const tenantId of subjects) {
      const before = book.pages.get(tenantId);
      if (before === undefined) continue;
      const posted = postNews(book, before, news, source, ctx.prices);
      for (const lane of posted.revivedLanes) revivedLanes.add(lane);
      putPage(book, posted.page);
      await follow(ctx, book, before, posted.page);
    }
  } catch (error) {
    // Nothing was changed for it: the others of the batch go on, and it is tried again like all that fails.
    if (error instanceof ConflictError && error.code === "subscription_taken") return { status: "refused", error };
    throw error;
  }
  return { status: "projected", tenantId: first };
}

/** Has tier and status follow from what a page says now. */
async function follow(ctx: ProjectionContext, book: Book, before: Page, after: Page): Promise<void> {
  if (after.tenant.billingExempt) return;
  const was = billingOf(before);
  const is = billingOf(after);
  const tiered = await followTier(ctx, after.tenant, was, is);
  const tenant = await followStatus(ctx, tiered, was, is);
  if (tenant !== after.tenant) putPage(book, { ...after, tenant });
}

async function followTier(
  ctx: ProjectionContext,
  tenant: Tenant,
  before: Billing | undefined,
  after: Billing | undefined,
): Promise<Tenant> {
  const price = pricedAt(after?.subscription);
  // Only a change of plan moves the tier: what an operator set by hand stays until then.
  if (price === undefined || price === pricedAt(before?.subscription)) return tenant;
  const known = price === ctx.prices.plus ? "plus" : price === ctx.prices.basic ? "basic" : undefined;
  if (known === undefined) {
    await writeAudit(ctx.db, {
      at: ctx.clock.now(),
      actor: ctx.actor,
      action: "billing.price-unknown",
      tenantId: tenant.id,
      reason: "The price is neither STRIPE_PRICE_BASIC nor STRIPE_PRICE_PLUS; the tier is basic.",
      detail: { warning: true, priceId: price },
    });
  }
  return setTier(ctx, tenant.id, known ?? "basic", `subscription priced at ${price}`);
}

async function followStatus(
  ctx: ProjectionContext,
  tenant: Tenant,
  before: Billing | undefined,
  after: Billing | undefined,
): Promise<Tenant> {
  const now = ctx.clock.now();
  const was = judgeTenant(tenant, before, now);
  const is = judgeTenant(tenant, after, now);
  const effect = planStatusEffect(
    tenant,
    is,
    occasionOf(tenant, { before, after, began: is.entitled && !was.entitled }),
  );
  return effect === undefined ? tenant : applyEffect(ctx, tenant.id, effect);
}

function occasionOf(
  tenant: Tenant,
  change: { before: Billing | undefined; after: Billing | undefined; began: boolean },
): Occasion {
  const { before, after, began } = change;
  const is = after?.subscription;
  const was = before?.subscription;
  if (began) return "began";
  if (is?.status === "canceled" && (was?.id !== is.id || was.status !== "canceled")) return "ended";
  // A payment tries again what was given up; news of one that was made before it was given up does not.
  const paidAt = is?.lastPaidAt ?? undefined;
  const paidAnew =
    paidAt !== undefined && !(was?.lastPaidAt && was.lastPaidAt >= paidAt) && paidAt > tenant.statusChangedAt;
  return paidAnew ? "began" : "review";
}
