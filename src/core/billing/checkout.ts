import { createHash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { NewCheckout } from "../adapters/stripe/stripe-api.ts";
import { addMs } from "../platform/clock.ts";
import { ConfigError, ConflictError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Tenant } from "../tenants/tenants.ts";
import { findBilling } from "./account.ts";
import { ensureCustomer, findCustomer, type LinkedCustomer, minuteOf, type SalesContext } from "./customer.ts";

export type Prices = { basic: string | undefined; plus: string | undefined };

export type CheckoutOptions = {
  prices: Prices;
  /** The tenant's own unless given. */
  tier?: Tenant["tier"];
  successUrl: string;
  cancelUrl: string;
};

/** Where somebody pays, or looks after what they pay. */
export type BillingLink = { url: string; customer: LinkedCustomer; expiresAt?: Date };

/** With them, a subscription is there to be looked after, not to be bought again. */
const LIVE = new Set(["trialing", "active", "past_due", "unpaid", "paused", "incomplete"]);
/** Stripe takes no trial that ends sooner. */
const SHORTEST_TRIAL_MS = 48 * 3_600_000;
/** An open checkout that ends sooner is not handed out any more. */
const LEAST_LEFT_MS = 3_600_000;
/** Longer than Stripe takes for all of it. */
const SELLING_MS = 30_000;
const CLAIM_AGAIN_MS = 50;

/**
 * A page on which the tenant's subscription is paid for. There is one at a time: an open one is handed out again, and one of
 * another offer is closed first, so that nobody pays twice.
 * @throws ConfigError when the tier has no price; ConflictError when there is nothing to be bought; UpstreamError.
 */
export async function openCheckout(ctx: SalesContext, tenant: Tenant, options: CheckoutOptions): Promise<BillingLink> {
  const tier = options.tier ?? tenant.tier;
  const priceId = requirePrice(options.prices, tier);
  if (tenant.billingExempt) {
    throw new ConflictError(
      "billing_exempt",
      `Tenant ${tenant.slug} is exempt from billing; end that first: openclaw tenant update ${tenant.slug} --no-billing-exempt`,
    );
  }
  return whileSelling(ctx, tenant.id, async () => {
    const customer = await ensureCustomer(ctx, tenant);
    const { trialEndsAt } = tenant;
    const isLongEnough = trialEndsAt !== null && trialEndsAt > addMs(ctx.clock.now(), SHORTEST_TRIAL_MS);
    const { successUrl, cancelUrl } = options;
    const page = { priceId, successUrl, cancelUrl, trialEndsAt: isLongEnough ? trialEndsAt : undefined };
    const checkout = await findOrMake(ctx, tenant, { tenantId: tenant.id, customerId: customer.id, ...page });
    return { ...checkout, customer };
  });
}

async function findOrMake(
  ctx: SalesContext,
  tenant: Tenant,
  wanted: NewCheckout,
): Promise<Omit<BillingLink, "customer">> {
  // In this order: what is paid for meanwhile has its subscription by then.
  const checkouts = await ctx.stripe.listCheckouts(wanted.customerId);
  await refuseSecond(ctx, tenant, wanted.customerId);
  const offer = createHash("sha256").update(JSON.stringify(wanted)).digest("hex").slice(0, 32);
  const soon = addMs(ctx.clock.now(), LEAST_LEFT_MS);
  const open = checkouts.find((one) => one.isOpen && one.offer === offer && one.expiresAt > soon);
  if (open !== undefined && open.url !== null) return { url: open.url, expiresAt: open.expiresAt };
  for (const { id, isOpen } of checkouts) if (isOpen) await ctx.stripe.expireCheckout(id);
  const key = JSON.stringify(["checkout", offer, checkouts[0]?.id ?? "first", minuteOf(ctx.clock.now())]);
  const { url, expiresAt } = await ctx.stripe.createCheckout({ ...wanted, offer }, key);
  if (url === null) throw new Error("Stripe made a checkout without an address");
  return { url, expiresAt };
}

/** One at a time for each tenant, over everybody: a lease, since Stripe is asked meanwhile, and whoever holds it may die. */
async function whileSelling<Result>(
  ctx: SalesContext,
  tenantId: TenantId,
  sell: () => Promise<Result>,
): Promise<Result> {
  for (
    const deadline = performance.now() + SELLING_MS;
    !(await claimSale(ctx, tenantId));
    await delay(CLAIM_AGAIN_MS)
  ) {
    if (performance.now() > deadline)
      throw new ConflictError("checkout_busy", "Another checkout of this tenant is being made; try again in a while.");
  }
  try {
    return await sell();
  } finally {
    await ctx.db.updateTable("tenantBilling").set({ sellingUntil: null }).where("tenantId", "=", tenantId).execute();
  }
}

async function claimSale({ db, clock }: SalesContext, tenantId: TenantId): Promise<boolean> {
  const now = clock.now();
  const claimed = await db
    .insertInto("tenantBilling")
    .values({ tenantId, sellingUntil: addMs(now, SELLING_MS), updatedAt: now })
    .onConflict((conflict) =>
      conflict
        .column("tenantId")
        .doUpdateSet({ sellingUntil: addMs(now, SELLING_MS) })
        .where((eb) =>
          eb.or([eb("tenantBilling.sellingUntil", "is", null), eb("tenantBilling.sellingUntil", "<=", now)]),
        ),
    )
    .returning("tenantId")
    .executeTakeFirst();
  return claimed !== undefined;
}

/**
 * A page on which the subscriber looks after the subscription and its cards.
 * @throws ConflictError when the tenant has no customer in Stripe; UpstreamError.
 */
export async function openPortal(
  ctx: Pick<SalesContext, "db" | "stripe">,
  tenant: Tenant,
  returnUrl: string,
): Promise<{ url: string; customerId: string }> {
  const { linked, exists } = await findCustomer(ctx, tenant.id);
  if (linked === undefined || !exists) {
    throw new ConflictError(
      "no_customer",
      linked === undefined
        ? `Tenant ${tenant.slug} has no customer in Stripe yet; begin with: openclaw billing checkout ${tenant.slug}`
        : `Stripe has no customer ${linked}, which tenant ${tenant.slug} is linked to: it is of another account or mode, or deleted. A new one is made by: openclaw billing checkout ${tenant.slug}`,
    );
  }
  const { url } = await ctx.stripe.createPortal(linked, returnUrl);
  return { url, customerId: linked };
}

/** Stripe's word counts: what our rows say may be behind, or of another account. */
async function refuseSecond({ db, stripe }: SalesContext, { id, slug }: Tenant, customerId: string): Promise<void> {
  const listed = await stripe.listSubscriptionsOf(customerId);
  const known = (await findBilling(db, id))?.subscription;
  const isListed = known === undefined || listed.some((one) => one.id === known.id);
  const other = isListed ? undefined : await stripe.retrieve("subscription", known.id);
  const live = [
    ...listed,
    ...(other === undefined ? [] : [{ id: String(other["id"]), status: String(other["status"]) }]),
  ].find(({ status }) => LIVE.has(status));
  if (live === undefined) return;
  throw new ConflictError(
    "already_subscribed",
    `Tenant ${slug} has a subscription already: ${live.id} is ${live.status}. It is looked after by: openclaw billing portal ${slug}`,
  );
}

function requirePrice(prices: Prices, tier: Tenant["tier"]): string {
  const priceId = prices[tier];
  if (priceId !== undefined) return priceId;
  const name = tier === "basic" ? "STRIPE_PRICE_BASIC" : "STRIPE_PRICE_PLUS";
  throw new ConfigError("price_missing", [
    `${name} is not set; expected the price of the tier ${tier}, e.g. price_1Abc…`,
  ]);
}
