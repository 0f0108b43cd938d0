import type { StripeApi } from "../adapters/stripe/stripe-api.ts";
import { ConflictError, OpenClawError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { endsWithin } from "../platform/pause.ts";
import { findTenantById, type Tenant } from "../tenants/tenants.ts";
import type { BillingContext } from "./apply.ts";
import { openCheckout, openPortal, type Prices } from "./checkout.ts";
import type { SalesContext } from "./customer.ts";

/**
 * Where a subscriber pays, or looks after a subscription that is there already; the sign-up page when there is no page of
 * their own, undefined when there is none either.
 */
export type PayLinks = (tenantId: TenantId) => Promise<string | undefined>;

type PayContext = BillingContext & {
  log: Log;
  /** Undefined without an API key. */
  stripe: StripeApi | undefined;
  prices: Prices;
  signupUrl: string | undefined;
  /** Where Stripe's pages lead back to without a sign-up page. */
  publicUrl: string | undefined;
};

/** Somebody waits for the words that the link stands in. */
const PATIENCE_MS = 8_000;

export function createPayLinks(ctx: PayContext): PayLinks {
  const { stripe, signupUrl } = ctx;
  const returnUrl = signupUrl ?? ctx.publicUrl;
  if (stripe === undefined || returnUrl === undefined) return async () => signupUrl;

  async function makeLink(tenant: Tenant, sales: SalesContext, page: string): Promise<string> {
    try {
      return (await openCheckout(sales, tenant, { prices: ctx.prices, successUrl: page, cancelUrl: page })).url;
    } catch (error) {
      if (!(error instanceof ConflictError) || error.code !== "already_subscribed") throw error;
      return (await openPortal(sales, tenant, page)).url;
    }
  }

  return async (tenantId) => {
    let link = signupUrl;
    const tenant = await findTenantById(ctx.db, tenantId);
    if (tenant === undefined) return link;
    const making = async () => {
      try {
        link = await makeLink(tenant, { ...ctx, stripe }, returnUrl);
      } catch (error) {
        // What is said is said without it: the sign-up page leads on as well.
        if (!(error instanceof OpenClawError)) throw error;
        ctx.log.warn({ error, tenantId }, "a link to Stripe's pages could not be made");
      }
    };
    await endsWithin(PATIENCE_MS, making());
    return link;
  };
}
